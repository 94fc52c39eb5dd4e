//! A walk over an XML document that tells of its leaves, each with the names around it. Total: any text gives events or an error.

use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events;
use quick_xml::reader::Reader;

/// What the walk comes across.
pub enum Event<'a> {
    /// An element begins.
    Begin {
        /// The names from the root down to it.
        path: &'a [&'a str],
    },
    /// An element without elements in it ended.
    Leaf {
        /// The names from the root down to it.
        path: &'a [&'a str],
        /// Its text, references resolved.
        text: &'a str,
    },
}

/// Why a document cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the XML expected: {0}")]
pub struct BadXml(pub String);

/// Elements within elements beyond this are not S3's.
const MAX_DEPTH: usize = 16;

/// The elements we look at; all others go by [`OTHER`].
const NAMES: [&str; 25] = [
    "ListBucketResult",
    "Contents",
    "Key",
    "Size",
    "ETag",
    "LastModified",
    "CommonPrefixes",
    "Prefix",
    "Name",
    "Delimiter",
    "EncodingType",
    "IsTruncated",
    "NextContinuationToken",
    "KeyCount",
    "Error",
    "Code",
    "Message",
    "Region",
    "UploadId",
    "ChecksumCRC32C",
    "ListMultipartUploadsResult",
    "Upload",
    "Initiated",
    "NextKeyMarker",
    "NextUploadIdMarker",
];

/// The name of every element not in [`NAMES`].
pub const OTHER: &str = "*";

fn interned(name: &str) -> &'static str {
    NAMES.into_iter().find(|known| *known == name).unwrap_or(OTHER)
}

fn push_reference(reference: &events::BytesRef<'_>, text: &mut String) -> Result<(), BadXml> {
    if let Some(c) = reference.resolve_char_ref().map_err(|error| BadXml(error.to_string()))? {
        text.push(c);
        return Ok(());
    }
    let name: &str = reference;
    text.push_str(resolve_predefined_entity(name).ok_or_else(|| BadXml(format!("unknown entity '{name}'")))?);
    Ok(())
}

/// Text as it stands in a document of ours.
pub fn escaped(text: &str) -> String {
    quick_xml::escape::escape(text).into_owned()
}

/// Walks a document.
pub fn walk(document: &str, mut visit: impl FnMut(Event<'_>)) -> Result<(), BadXml> {
    let mut reader = Reader::from_str(document);
    reader.config_mut().expand_empty_elements = true;
    let mut path: Vec<&'static str> = Vec::new();
    let mut text = String::new();
    let mut is_leaf = false;
    loop {
        let event = reader.read_event().map_err(|error| BadXml(error.to_string()))?;
        match event {
            events::Event::Start(start) => {
                if path.len() >= MAX_DEPTH {
                    return Err(BadXml("elements nested too deeply".into()));
                }
                path.push(interned(start.local_name().as_ref()));
                text.clear();
                is_leaf = true;
                visit(Event::Begin { path: &path });
            }
            events::Event::End(_) => {
                if is_leaf {
                    visit(Event::Leaf { path: &path, text: &text });
                }
                is_leaf = false;
                path.pop();
            }
            events::Event::Text(piece) => text.push_str(&piece.xml10_content()),
            events::Event::CData(piece) => text.push_str(&piece.xml10_content()),
            events::Event::GeneralRef(reference) => push_reference(&reference, &mut text)?,
            events::Event::Eof if path.is_empty() => return Ok(()),
            events::Event::Eof => return Err(BadXml("it ends in the middle".into())),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn leaves(document: &str) -> Result<Vec<(String, String)>, BadXml> {
        let mut found = Vec::new();
        walk(document, |event| {
            if let Event::Leaf { path, text } = event {
                found.push((path.join("/"), text.to_owned()));
            }
        })?;
        Ok(found)
    }

    #[test]
    fn leaves_come_with_their_path_and_text() {
        let document = "<?xml version='1.0'?><x:Error xmlns:x='u'><Code>a&amp;b&#x41;<![CDATA[<c>]]></Code><Region/> </x:Error>";
        let want = vec![("Error/Code".to_owned(), "a&bA<c>".to_owned()), ("Error/Region".to_owned(), String::new())];
        assert_eq!(leaves(document), Ok(want));
    }

    #[test]
    fn half_documents_are_errors() {
        for document in ["<Error><Code>x</Code>", "<Error>&bogus;</Error>", "<a></b>", &"<a>".repeat(40)] {
            assert!(leaves(document).is_err(), "{document}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(document in "[<>/a-zA-Z&;=\"! \\[\\]-]{0,200}") {
            let _ = leaves(&document);
        }
    }
}
