//! What a message about a bucket says: S3's own event records, the same in an SNS envelope, and EventBridge's.
//!
//! Only the keys are read. What happened to them is for the store to say when it is asked: then it does not matter in which order messages
//! come, or how often. Total: any text gives keys or says why it does not.

use crate::repository::s3::encode::decode_listed;
use serde_json::Value;

/// An object that a message is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamedObject {
    /// The bucket; empty where the message does not say.
    pub bucket: String,
    /// The key, decoded.
    pub key: String,
}

/// A message that is none about a bucket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message is no event of a bucket: {0}")]
pub struct Unreadable(&'static str);

/// What comes and goes, as event names begin.
const EVENTS: [&str; 3] = ["ObjectCreated", "ObjectRemoved", "LifecycleExpiration"];
const DETAILS: [&str; 2] = ["Object Created", "Object Deleted"];

/// The objects that a message says were created, replaced or removed. None for what a store sends when it is set up, and for events of other kinds.
pub fn read(body: &str) -> Result<Vec<NamedObject>, Unreadable> {
    let value: Value = serde_json::from_str(body).map_err(|_| Unreadable("not JSON"))?;
    match value.get("Message").and_then(Value::as_str) {
        Some(inner) if value.get("Type").is_some() => {
            read_plain(&serde_json::from_str(inner).map_err(|_| Unreadable("its envelope holds no JSON"))?)
        }
        _ => read_plain(&value),
    }
}

fn read_plain(value: &Value) -> Result<Vec<NamedObject>, Unreadable> {
    if let Some(records) = value.get("Records").and_then(Value::as_array) {
        let found = records.iter().filter_map(|record| of_record(record).transpose());
        return found.collect();
    }
    if let Some(detail) = value.get("detail").filter(|_| text(value, &["source"]) == Some("aws.s3")) {
        let is_change = text(value, &["detail-type"]).is_some_and(|kind| DETAILS.contains(&kind));
        // EventBridge does not encode keys.
        let key = text(detail, &["object", "key"]).ok_or(Unreadable("it names no key"))?;
        let bucket = text(detail, &["bucket", "name"]).unwrap_or_default();
        return Ok(if is_change { vec![NamedObject { bucket: bucket.to_owned(), key: key.to_owned() }] } else { Vec::new() });
    }
    match text(value, &["Event"]) {
        Some("s3:TestEvent") => Ok(Vec::new()),
        _ => Err(Unreadable("it has neither records nor a detail")),
    }
}

fn of_record(record: &Value) -> Result<Option<NamedObject>, Unreadable> {
    let name = text(record, &["eventName"]).ok_or(Unreadable("a record has no event name"))?;
    let name = name.strip_prefix("s3:").unwrap_or(name);
    if !EVENTS.iter().any(|event| name.starts_with(event)) {
        return Ok(None);
    }
    let key = text(record, &["s3", "object", "key"]).ok_or(Unreadable("a record names no key"))?;
    // Form encoding, as in listings: a blank is a plus.
    let key = decode_listed(key).ok_or(Unreadable("a key is not UTF-8"))?;
    let bucket = text(record, &["s3", "bucket", "name"]).unwrap_or_default().to_owned();
    Ok(Some(NamedObject { bucket, key }))
}

fn text<'v>(value: &'v Value, path: &[&str]) -> Option<&'v str> {
    path.iter().try_fold(value, |value, name| value.get(name))?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(event: &str, key: &str) -> String {
        format!(
            r#"{{"eventVersion":"2.1","eventSource":"aws:s3","eventName":"{event}","s3":{{"bucket":{{"name":"lake"}},"object":{{"key":"{key}","size":3}}}}}}"#
        )
    }

    fn keys(body: &str) -> Vec<String> {
        read(body).expect("readable").into_iter().map(|object| format!("{}:{}", object.bucket, object.key)).collect()
    }

    #[test]
    fn records_name_their_keys_decoded() {
        let records = [
            record("ObjectCreated:Put", "a+b%2Bc/%C3%BC"),
            record("s3:ObjectRemoved:Delete", "d"),
            record("ObjectTagging:Put", "t"),
        ];
        assert_eq!(keys(&format!(r#"{{"Records":[{}]}}"#, records.join(","))), ["lake:a b+c/ü", "lake:d"]);
    }

    #[test]
    fn envelopes_are_opened() {
        let inner = format!(r#"{{"Records":[{}]}}"#, record("ObjectCreated:Copy", "k"));
        let sns = serde_json::json!({"Type": "Notification", "TopicArn": "arn:aws:sns:x", "Message": inner}).to_string();
        assert_eq!(keys(&sns), ["lake:k"]);
        let bridge = |kind: &str| {
            let detail = serde_json::json!({"bucket": {"name": "lake"}, "object": {"key": "a+b%20c"}});
            serde_json::json!({"source": "aws.s3", "detail-type": kind, "detail": detail}).to_string()
        };
        assert_eq!(keys(&bridge("Object Deleted")), ["lake:a+b%20c"], "not encoded there");
        assert!(keys(&bridge("Object Tags Added")).is_empty());
    }

    #[test]
    fn a_test_event_says_nothing_and_other_text_is_told() {
        assert!(keys(r#"{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"lake"}"#).is_empty());
        for body in
            ["", "hello", "[]", "{}", r#"{"Records":[{}]}"#, r#"{"Type":"Notification","Message":"hi"}"#, r#"{"Records":3}"#]
        {
            assert!(read(body).is_err(), "{body}");
        }
        let not_utf8 = format!(r#"{{"Records":[{}]}}"#, record("ObjectCreated:Put", "%ff"));
        assert!(read(&not_utf8).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_told(body in ".*") {
            let _ = read(&body);
        }
    }
}
