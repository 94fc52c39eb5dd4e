//! What every queue must do, run against each of them. (Amazon's protocol against a server by others: package `forebay`, test `moto`.)

use super::faulty::FaultyQueue;
use super::memory::MemoryQueue;
use super::sqs_tests::Server;
use super::{Backlog, EventQueue, Message};
use std::sync::Arc;
use std::time::Duration;

const NOW: Duration = Duration::ZERO;
const LONG: Duration = Duration::from_secs(300);

/// A queue under test, and its other end.
pub(super) struct Subject {
    pub(super) queue: Arc<dyn EventQueue>,
    pub(super) behind: Arc<MemoryQueue>,
}

async fn memory() -> Subject {
    let behind = Arc::new(MemoryQueue::new("memory://queue"));
    Subject { queue: behind.clone(), behind }
}

async fn faulty() -> Subject {
    let behind = Arc::new(MemoryQueue::new("memory://queue"));
    Subject { queue: Arc::new(FaultyQueue::new(behind.clone())), behind }
}

async fn sqs() -> Subject {
    Server::start().await
}

macro_rules! conform {
    ($($queue:ident: $($property:ident)*;)*) => { $( mod $queue { $(
        #[tokio::test]
        async fn $property() {
            super::$property(&super::super::$queue().await).await;
        }
    )* } )* };
}

mod suites {
    use super::{
        a_message_comes_again_when_its_time_is_over, an_empty_queue_gives_nothing, at_most_ten_come_at_once,
        bodies_come_as_they_were_sent, what_is_deleted_is_gone,
    };
    conform! {
        memory: bodies_come_as_they_were_sent an_empty_queue_gives_nothing at_most_ten_come_at_once what_is_deleted_is_gone a_message_comes_again_when_its_time_is_over;
        faulty: bodies_come_as_they_were_sent an_empty_queue_gives_nothing at_most_ten_come_at_once what_is_deleted_is_gone a_message_comes_again_when_its_time_is_over;
        sqs: bodies_come_as_they_were_sent an_empty_queue_gives_nothing at_most_ten_come_at_once what_is_deleted_is_gone a_message_comes_again_when_its_time_is_over;
    }
}

async fn receive(subject: &Subject) -> Vec<Message> {
    subject.queue.receive(NOW, LONG).await.expect("received")
}

async fn bodies_come_as_they_were_sent(subject: &Subject) {
    let odd = "{\"a\": \"ü \\\" \u{1F30A}\"}\n";
    subject.behind.send(odd);
    let message = receive(subject).await.remove(0);
    assert_eq!((message.body.as_str(), message.received), (odd, 1));
    assert!(message.sent_ns.is_some_and(|sent| sent > 0));
}

async fn an_empty_queue_gives_nothing(subject: &Subject) {
    assert_eq!(receive(subject).await, []);
    assert_eq!(subject.queue.backlog().await, Ok(Backlog::default()));
}

async fn at_most_ten_come_at_once(subject: &Subject) {
    (0..13).for_each(|number| subject.behind.send(format!("{number}")));
    assert_eq!(receive(subject).await.len(), 10);
    assert_eq!(subject.queue.backlog().await, Ok(Backlog { waiting: 3, in_flight: 10 }));
    assert_eq!(receive(subject).await.len(), 3);
    assert_eq!(receive(subject).await, [], "nobody gets them twice before their time");
}

async fn what_is_deleted_is_gone(subject: &Subject) {
    (0..4).for_each(|number| subject.behind.send(format!("{number}")));
    let messages = receive(subject).await;
    let receipts: Vec<String> = messages.iter().take(3).map(|message| message.receipt.clone()).collect();
    subject.queue.delete(&receipts).await.expect("deleted");
    subject.queue.delete(&receipts).await.expect("deleted twice");
    subject.behind.reveal();
    let left = receive(subject).await;
    assert_eq!(left.iter().map(|message| message.body.as_str()).collect::<Vec<_>>(), [messages[3].body.as_str()]);
}

async fn a_message_comes_again_when_its_time_is_over(subject: &Subject) {
    subject.behind.send("once more");
    let first = receive(subject).await.remove(0);
    subject.behind.reveal();
    let again = receive(subject).await.remove(0);
    assert_eq!((again.body.as_str(), again.received), ("once more", 2));
    assert_ne!(first.receipt, again.receipt);
}
