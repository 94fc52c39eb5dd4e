//! ListMultipartUploads: the query and its answer.

use super::encode;
use super::xml::{self, BadXml, Event};
use crate::repository::time::parse_iso;
use crate::repository::write::{PendingUpload, Upload, UploadsPage, UploadsRequest, UploadsToken};

/// A page that cannot be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadUploads {
    /// Not XML, or not to its end.
    #[error(transparent)]
    Xml(#[from] BadXml),
    /// Another document.
    #[error("the answer is not a ListMultipartUploadsResult")]
    NotAPage,
    /// An entry lacks a field, or has one that does not parse.
    #[error("an upload has no valid {field}: '{text}'")]
    BadField {
        /// The element.
        field: &'static str,
        /// What stands there.
        text: String,
    },
    /// A key outside the prefix.
    #[error("the list of uploads holds '{0}', which was not asked for")]
    Foreign(String),
    /// More to come, but no word on how to get it.
    #[error("the list of uploads is truncated but has no markers")]
    NoMarkers,
}

/// The canonical query string.
pub fn query(request: &UploadsRequest) -> String {
    let most = request.max_uploads.map(|n| n.to_string());
    let mut pairs: Vec<(&str, &str)> = vec![("encoding-type", "url")];
    if let Some(token) = &request.token {
        pairs.push(("key-marker", &token.key));
    }
    if let Some(most) = &most {
        pairs.push(("max-uploads", most));
    }
    pairs.push(("prefix", &request.prefix));
    if let Some(token) = &request.token {
        pairs.push(("upload-id-marker", &token.id));
    }
    pairs.push(("uploads", ""));
    encode::query(&pairs)
}

#[derive(Default)]
struct Raw {
    is_page: bool,
    encoded: bool,
    truncated: bool,
    key_marker: String,
    id_marker: String,
    /// Key, id, time.
    entries: Vec<[String; 3]>,
}

impl Raw {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Begin { path: ["ListMultipartUploadsResult"] } => self.is_page = true,
            Event::Begin { path: ["ListMultipartUploadsResult", "Upload"] } => self.entries.push(Default::default()),
            Event::Leaf { path: ["ListMultipartUploadsResult", "Upload", field], text } => {
                let Some([key, id, begun]) = self.entries.last_mut() else { return };
                match *field {
                    "Key" => text.clone_into(key),
                    "UploadId" => text.clone_into(id),
                    "Initiated" => text.clone_into(begun),
                    _ => {}
                }
            }
            Event::Leaf { path: ["ListMultipartUploadsResult", field], text } => match *field {
                "EncodingType" => self.encoded = text == "url",
                "IsTruncated" => self.truncated = text == "true",
                "NextKeyMarker" => text.clone_into(&mut self.key_marker),
                "NextUploadIdMarker" => text.clone_into(&mut self.id_marker),
                _ => {}
            },
            _ => {}
        }
    }
}

/// Reads a page.
pub fn parse(document: &str, prefix: &str) -> Result<UploadsPage, BadUploads> {
    let mut raw = Raw::default();
    xml::walk(document, |event| raw.take(event))?;
    if !raw.is_page {
        return Err(BadUploads::NotAPage);
    }
    let decoded = |text: String| match raw.encoded {
        true => encode::decode_listed(&text).ok_or(BadUploads::BadField { field: "Key", text }),
        false => Ok(text),
    };
    let mut page = UploadsPage::default();
    for [key, id, begun] in raw.entries {
        let key = decoded(key)?;
        if !key.starts_with(prefix) {
            return Err(BadUploads::Foreign(key));
        }
        if id.is_empty() {
            return Err(BadUploads::BadField { field: "UploadId", text: key });
        }
        let begun_ns = parse_iso(&begun).ok_or(BadUploads::BadField { field: "Initiated", text: begun })?;
        page.uploads.push(PendingUpload { upload: Upload { key, id }, begun_ns });
    }
    if raw.truncated {
        if raw.key_marker.is_empty() {
            return Err(BadUploads::NoMarkers);
        }
        page.next = Some(UploadsToken { key: decoded(raw.key_marker)?, id: raw.id_marker });
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ENTRY: &str = "<Upload><Key>p/a+b</Key><UploadId>u</UploadId><Initiated>2009-10-12T17:50:30.000Z</Initiated></Upload>";

    fn document(inside: &str) -> String {
        format!("<ListMultipartUploadsResult><EncodingType>url</EncodingType>{inside}</ListMultipartUploadsResult>")
    }

    #[test]
    fn a_page_is_read() {
        let more =
            "<IsTruncated>true</IsTruncated><NextKeyMarker>p/a+b</NextKeyMarker><NextUploadIdMarker>u</NextUploadIdMarker>";
        let page = parse(&document(&format!("{ENTRY}{more}")), "p/").expect("good");
        let upload = Upload { key: "p/a b".into(), id: "u".into() };
        assert_eq!(page.uploads, [PendingUpload { upload, begun_ns: 1_255_369_830_000_000_000 }]);
        assert_eq!(page.next, Some(UploadsToken { key: "p/a b".into(), id: "u".into() }));
    }

    #[test]
    fn pages_that_cannot_be_believed_are_refused() {
        for inside in [
            ENTRY.replace("p/", "q/"),
            ENTRY.replace(">u<", "><"),
            ENTRY.replace("2009-", "2009"),
            "<IsTruncated>true</IsTruncated>".to_owned(),
        ] {
            assert!(parse(&document(&inside), "p/").is_err(), "{inside}");
        }
        assert!(parse("<Error/>", "").is_err());
    }

    #[test]
    fn the_query_is_sorted() {
        let token = Some(UploadsToken { key: "k".into(), id: "i".into() });
        let request = UploadsRequest { prefix: "p/".into(), token, max_uploads: Some(3) };
        assert_eq!(query(&request), "encoding-type=url&key-marker=k&max-uploads=3&prefix=p%2F&upload-id-marker=i&uploads=");
    }

    proptest! {
        #[test]
        fn any_document_is_read_or_refused(inside in "(<(Upload|Key|/Key|/Upload|IsTruncated)>|[a-z0-9&;]){0,30}") {
            let _ = parse(&document(&inside), "");
        }
    }
}
