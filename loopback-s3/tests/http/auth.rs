//! Signed and unsigned requests. The signatures are made here, from the specification.

use crate::client::{Client, Reply, start, start_with};
use forebay_loopback_s3::{Credentials, LoopbackConfig};
use hmac::{Hmac, KeyInit, Mac};
use http::Method;
use sha2::{Digest, Sha256};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length will do");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// `YYYYMMDDTHHMMSSZ` of now: signatures live for 15 minutes.
fn now() -> String {
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs() as i64;
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Howard Hinnant's `civil_from_days`.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// Sends a request signed with `credentials` (path without anything to encode, no query).
async fn signed(client: &Client, credentials: &Credentials, method: Method, path: &str, body: &'static str) -> Reply {
    let (time, payload) = (now(), hex(&Sha256::digest(body)));
    let canonical = format!(
        "{method}\n{path}\n\nhost:127.0.0.1\nx-amz-content-sha256:{payload}\nx-amz-date:{time}\n\nhost;x-amz-content-sha256;x-amz-date\n{payload}"
    );
    let scope = format!("{}/us-east-1/s3/aws4_request", &time[..8]);
    let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
    let secret = format!("AWS4{}", credentials.secret_key);
    let key = ["us-east-1", "s3", "aws4_request"].iter().fold(hmac(secret.as_bytes(), &time[..8]), |key, text| hmac(&key, text));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders=host;x-amz-content-sha256;x-amz-date,Signature={}",
        credentials.access_key,
        hex(&hmac(&key, &to_sign))
    );
    let headers = [("authorization", authorization.as_str()), ("x-amz-date", &time), ("x-amz-content-sha256", &payload)];
    client.send(method, path, &headers, body).await
}

fn locked() -> LoopbackConfig {
    LoopbackConfig { allow_anonymous: false, ..LoopbackConfig::default() }
}

#[tokio::test]
async fn the_right_credentials_open() {
    let (server, client) = start_with(locked()).await;
    let put = signed(&client, &server.credentials(), Method::PUT, "/data/k", "content").await;
    assert_eq!(put.status, 200, "{}", put.text());
    assert_eq!(signed(&client, &server.credentials(), Method::GET, "/data/k", "").await.body, "content");
}

#[tokio::test]
async fn a_wrong_secret_is_403() {
    let (server, client) = start_with(locked()).await;
    let wrong = Credentials { secret_key: "wrong".to_owned(), ..server.credentials() };
    signed(&client, &wrong, Method::GET, "/data/k", "").await.is_error(403, "SignatureDoesNotMatch");
}

#[tokio::test]
async fn an_unknown_access_key_is_403() {
    let (server, client) = start_with(locked()).await;
    let wrong = Credentials { access_key: "NOBODY".to_owned(), ..server.credentials() };
    signed(&client, &wrong, Method::GET, "/data/k", "").await.is_error(403, "InvalidAccessKeyId");
}

#[tokio::test]
async fn unsigned_requests_are_403_where_not_allowed() {
    let (_server, client) = start_with(locked()).await;
    client.get("/data/k", &[]).await.is_error(403, "AccessDenied");
    client.put("/data/k", &[], "x").await.is_error(403, "AccessDenied");
}

#[tokio::test]
async fn where_unsigned_requests_are_allowed_a_wrong_signature_still_is_not() {
    let (server, client) = start().await;
    let wrong = Credentials { secret_key: "wrong".to_owned(), ..server.credentials() };
    signed(&client, &wrong, Method::GET, "/data/k", "").await.is_error(403, "SignatureDoesNotMatch");
}

#[tokio::test]
async fn credentials_that_were_replaced_have_expired() {
    let (server, client) = start_with(locked()).await;
    let before = server.credentials();
    let after = Credentials { access_key: "SECOND".to_owned(), secret_key: "another".to_owned() };
    server.replace_credentials(after.clone());
    signed(&client, &before, Method::PUT, "/data/k", "old").await.is_error(400, "ExpiredToken");
    assert_eq!(server.expired_requests(), 1);
    assert_eq!(signed(&client, &after, Method::PUT, "/data/k", "new").await.status, 200);
}
