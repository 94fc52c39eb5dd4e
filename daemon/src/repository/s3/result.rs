//! The documents of writes: what is sent at the end of a multipart upload, and what comes back from copies and uploads.

use super::xml::{self, BadXml, Event};
use crate::repository::write::Part;
use std::fmt::Write;

/// What the answer to a write says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it is an error document, whatever the status was.
    pub is_error: bool,
    /// The ETag of what was made.
    pub etag: Option<String>,
    /// The id of what was begun.
    pub upload_id: Option<String>,
    /// The CRC-32C of a copied part, in base64.
    pub crc32c: Option<String>,
}

/// Reads an answer's document. One that breaks off, or is none, is an error: nobody knows then what was done.
pub fn parse(document: &str) -> Result<Outcome, BadXml> {
    let mut outcome = Outcome::default();
    xml::walk(document.trim_start(), |event| match event {
        Event::Begin { path: ["Error"] } => outcome.is_error = true,
        Event::Leaf { path: [_, name], text } if !text.is_empty() => match *name {
            "ETag" => outcome.etag = Some(text.to_owned()),
            "UploadId" => outcome.upload_id = Some(text.to_owned()),
            "ChecksumCRC32C" => outcome.crc32c = Some(text.to_owned()),
            _ => {}
        },
        _ => {}
    })?;
    Ok(outcome)
}

/// The document that ends a multipart upload.
pub fn part_list(parts: &[Part]) -> String {
    let mut text = String::from("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for Part { number, etag, crc32c } in parts {
        // Writing to a String cannot fail.
        let _ = write!(text, "<Part><PartNumber>{number}</PartNumber><ETag>{}</ETag>", xml::escaped(etag));
        if let Some(crc32c) = crc32c {
            let _ = write!(text, "<ChecksumCRC32C>{}</ChecksumCRC32C>", xml::escaped(crc32c));
        }
        text.push_str("</Part>");
    }
    text.push_str("</CompleteMultipartUpload>");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn answers_are_read() {
        let copied = "  \n<?xml version=\"1.0\"?><CopyPartResult><ETag>&quot;e&quot;</ETag><ChecksumCRC32C>AAAAAA==</ChecksumCRC32C></CopyPartResult>";
        let want = Outcome { etag: Some("\"e\"".into()), crc32c: Some("AAAAAA==".into()), ..Outcome::default() };
        assert_eq!(parse(copied), Ok(want));
        let begun = parse("<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>");
        assert_eq!(begun.expect("good").upload_id.as_deref(), Some("u"));
        assert!(parse("<Error><Code>InternalError</Code></Error>").expect("good").is_error);
        assert!(parse("<CompleteMultipartUploadResult><ETag>e</ETag>").is_err(), "half a document");
    }

    #[test]
    fn parts_are_listed() {
        let parts = [
            Part { number: 1, etag: "\"a\"".into(), crc32c: None },
            Part { number: 7, etag: "<b&".into(), crc32c: Some("c==".into()) },
        ];
        assert_eq!(
            part_list(&parts),
            "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <Part><PartNumber>1</PartNumber><ETag>&quot;a&quot;</ETag></Part>\
             <Part><PartNumber>7</PartNumber><ETag>&lt;b&amp;</ETag><ChecksumCRC32C>c==</ChecksumCRC32C></Part></CompleteMultipartUpload>"
        );
    }

    proptest! {
        #[test]
        fn any_document_is_read_or_refused(document in "(<(Error|ETag|/ETag|/Error)>|[a-z&;]){0,20}") {
            let _ = parse(&document);
        }
    }
}
