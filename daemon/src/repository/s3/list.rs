//! ListObjectsV2: the query and its answer.
//!
//! Keys are asked for with `encoding-type=url`, since XML 1.0 cannot hold control characters. A page is checked before it is
//! believed: everything in it lies under the prefix, in strictly ascending order, and a page that is not the last says how to go on.

use super::encode;
use super::xml::{self, BadXml, Event};
use crate::repository::time::parse_iso;
use crate::repository::{ListPage, ListRequest, ObjectSummary};

/// A listing that cannot be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadListing {
    /// Not XML, or not to its end.
    #[error(transparent)]
    Xml(#[from] BadXml),
    /// Another document, an error for one.
    #[error("the answer to a listing is not a ListBucketResult")]
    NotAListing,
    /// An entry lacks a field, or has one that does not parse.
    #[error("an entry of the listing has no valid {field}: '{text}'")]
    BadField {
        /// The element.
        field: &'static str,
        /// What stands there.
        text: String,
    },
    /// A key outside the prefix.
    #[error("the listing of '{prefix}' holds '{key}'")]
    Foreign {
        /// What was asked for.
        prefix: String,
        /// What came.
        key: String,
    },
    /// Keys not in ascending order; pages could not be merged.
    #[error("the listing is not in key order at '{key}' (directory buckets are not supported)")]
    Unsorted {
        /// The first key out of order.
        key: String,
    },
    /// More to come, but no word on how to get it.
    #[error("the listing is truncated but has no continuation token")]
    NoToken,
}

/// The canonical query string of a listing.
pub fn query(request: &ListRequest) -> String {
    let max_keys = request.max_keys.map(|n| n.to_string());
    let mut pairs: Vec<(&str, &str)> = Vec::with_capacity(7);
    if let Some(token) = &request.token {
        pairs.push(("continuation-token", token));
    }
    if request.delimited {
        pairs.push(("delimiter", "/"));
    }
    pairs.extend([("encoding-type", "url"), ("list-type", "2")]);
    if let Some(max_keys) = &max_keys {
        pairs.push(("max-keys", max_keys));
    }
    pairs.push(("prefix", &request.prefix));
    if let Some(after) = request.start_after.as_deref().filter(|_| request.token.is_none()) {
        pairs.push(("start-after", after));
    }
    encode::query(&pairs)
}

#[derive(Default)]
struct RawEntry {
    key: String,
    size: String,
    etag: String,
    modified: String,
}

#[derive(Default)]
struct RawPage {
    is_listing: bool,
    encoded: bool,
    truncated: bool,
    token: Option<String>,
    entries: Vec<RawEntry>,
    prefixes: Vec<String>,
}

/// Reads a page.
pub fn parse(document: &str, prefix: &str) -> Result<ListPage, BadListing> {
    let mut raw = RawPage::default();
    xml::walk(document, |event| raw.take(event))?;
    if !raw.is_listing {
        return Err(BadListing::NotAListing);
    }
    let decoded = |field: &'static str, text: String| match raw.encoded {
        true => encode::decode_listed(&text).ok_or(BadListing::BadField { field, text }),
        false => Ok(text),
    };
    let mut page = ListPage::default();
    for text in raw.prefixes {
        page.prefixes.push(decoded("Prefix", text)?);
    }
    for entry in raw.entries {
        let key = decoded("Key", entry.key)?;
        page.objects.push(summary(key, entry.size, entry.etag, &entry.modified)?);
    }
    check(page.prefixes.iter(), prefix)?;
    check(page.objects.iter().map(|object| &object.key), prefix)?;
    if raw.truncated {
        page.next = Some(raw.token.filter(|token| !token.is_empty()).ok_or(BadListing::NoToken)?);
    }
    Ok(page)
}

fn summary(key: String, size: String, etag: String, modified: &str) -> Result<ObjectSummary, BadListing> {
    let Ok(bytes) = size.trim().parse() else { return Err(BadListing::BadField { field: "Size", text: size }) };
    if etag.is_empty() {
        return Err(BadListing::BadField { field: "ETag", text: key });
    }
    let modified_ns =
        parse_iso(modified).ok_or_else(|| BadListing::BadField { field: "LastModified", text: modified.to_owned() })?;
    Ok(ObjectSummary { key, size: bytes, etag, modified_ns })
}

fn check<'a>(keys: impl Iterator<Item = &'a String>, prefix: &str) -> Result<(), BadListing> {
    let mut last: Option<&String> = None;
    for key in keys {
        if !key.starts_with(prefix) {
            return Err(BadListing::Foreign { prefix: prefix.to_owned(), key: key.clone() });
        }
        if last.is_some_and(|last| last >= key) {
            return Err(BadListing::Unsorted { key: key.clone() });
        }
        last = Some(key);
    }
    Ok(())
}

impl RawPage {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Begin { path: ["ListBucketResult"] } => self.is_listing = true,
            Event::Begin { path: ["ListBucketResult", "Contents"] } => self.entries.push(RawEntry::default()),
            Event::Leaf { path: ["ListBucketResult", "Contents", field], text } => {
                let Some(entry) = self.entries.last_mut() else { return };
                match *field {
                    "Key" => text.clone_into(&mut entry.key),
                    "Size" => text.clone_into(&mut entry.size),
                    "ETag" => text.clone_into(&mut entry.etag),
                    "LastModified" => text.clone_into(&mut entry.modified),
                    _ => {}
                }
            }
            Event::Leaf { path: ["ListBucketResult", "CommonPrefixes", "Prefix"], text } => self.prefixes.push(text.to_owned()),
            Event::Leaf { path: ["ListBucketResult", "EncodingType"], text } => self.encoded = text == "url",
            Event::Leaf { path: ["ListBucketResult", "IsTruncated"], text } => self.truncated = text == "true",
            Event::Leaf { path: ["ListBucketResult", "NextContinuationToken"], text } => self.token = Some(text.to_owned()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(key: &str) -> String {
        format!(
            "<Contents><Key>{key}</Key><LastModified>2009-10-12T17:50:30.500Z</LastModified><ETag>&quot;e&quot;</ETag><Size>5</Size>\
             <Owner><ID>x</ID></Owner></Contents>"
        )
    }

    fn document(inside: &str) -> String {
        format!("<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"u\"><Name>b</Name>{inside}</ListBucketResult>")
    }

    #[test]
    fn a_page_is_read_with_odd_keys() {
        let inside = format!(
            "{}<CommonPrefixes><Prefix>p/d%0A/</Prefix></CommonPrefixes><EncodingType>url</EncodingType>{}\
             <IsTruncated>true</IsTruncated><NextContinuationToken>t+/=</NextContinuationToken>",
            entry("p/a+b"),
            entry("p/c//%2B"),
        );
        let page = parse(&document(&inside), "p/").expect("a good page");
        let keys: Vec<_> = page.objects.iter().map(|object| object.key.as_str()).collect();
        assert_eq!(keys, ["p/a b", "p/c//+"]);
        assert_eq!((page.objects[0].size, page.objects[0].etag.as_str()), (5, "\"e\""));
        assert_eq!(page.objects[0].modified_ns, 1_255_369_830_500_000_000);
        assert_eq!(page.prefixes, ["p/d\n/"]);
        assert_eq!(page.next.as_deref(), Some("t+/="));
    }

    #[test]
    fn a_store_that_ignores_the_encoding_is_taken_at_its_word() {
        let page = parse(&document(&entry("a+b%20&lt;")), "").expect("a good page");
        assert_eq!(page.objects[0].key, "a+b%20<");
    }

    #[test]
    fn pages_that_cannot_be_believed_are_refused() {
        let good = entry("p/a");
        for (inside, want) in [
            (entry("q"), "Foreign"),
            (format!("{}{good}", entry("p/b")), "Unsorted"),
            (format!("{good}{good}"), "Unsorted"),
            (good.replace("5</Size>", "x</Size>"), "BadField"),
            (good.replace("&quot;e&quot;", ""), "BadField"),
            (good.replace("2009-", "2009"), "BadField"),
            (format!("{good}<IsTruncated>true</IsTruncated>"), "NoToken"),
        ] {
            let error = parse(&document(&inside), "p/").expect_err(want);
            assert!(format!("{error:?}").starts_with(want), "{error:?}");
        }
        assert_eq!(parse("<Error><Code>x</Code></Error>", "").map(|_| ()), Err(BadListing::NotAListing));
        assert!(matches!(parse("<ListBucketResult>", ""), Err(BadListing::Xml(_))));
    }

    #[test]
    fn the_query_is_sorted_and_a_token_replaces_start_after() {
        let mut request = ListRequest {
            prefix: "a b/".into(),
            delimited: true,
            token: None,
            start_after: Some("a b/x".into()),
            max_keys: Some(7),
        };
        let plain = "delimiter=%2F&encoding-type=url&list-type=2&max-keys=7&prefix=a%20b%2F&start-after=a%20b%2Fx";
        assert_eq!(query(&request), plain);
        request.token = Some("t=".into());
        let resumed = "continuation-token=t%3D&delimiter=%2F&encoding-type=url&list-type=2&max-keys=7&prefix=a%20b%2F";
        assert_eq!(query(&request), resumed);
    }

    proptest! {
        #[test]
        fn any_document_is_read_or_refused(inside in "(<(Contents|Key|Size|/Key|/Contents|IsTruncated)>|[a-z0-9&;]){0,40}") {
            let _ = parse(&document(&inside), "");
        }
    }
}
