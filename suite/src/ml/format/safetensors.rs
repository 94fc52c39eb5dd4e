//! Safetensors: tensors one after the other, with a header of JSON that says where. Little endian.
//!
//! ```text
//! 0        8          8 + len
//! | len u64 | JSON, spaces | data of all tensors, without gaps |
//! ```
//! The JSON is `{"name": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}, "__metadata__": {"format": "pt"}}`, with offsets from where the
//! data begins.

use crate::ml::error::FormatFault;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;

/// Bytes of the length of the header.
pub(in crate::ml) const PREFIX: usize = 8;
/// The longest header that the library `safetensors` reads.
const LONGEST: u64 = 100_000_000;
/// The one key that names no tensor.
const METADATA: &str = "__metadata__";
/// Bytes of a number of type BF16.
const BF16: u64 = 2;

/// A tensor to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ml) struct Tensor {
    /// Its name.
    pub(in crate::ml) name: String,
    /// Its dimensions.
    pub(in crate::ml) shape: Vec<u64>,
}

impl Tensor {
    /// Bytes of data.
    pub(in crate::ml) fn bytes(&self) -> u64 {
        self.shape.iter().product::<u64>() * BF16
    }
}

#[derive(Serialize, Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// Everything before the data of the tensors.
pub(in crate::ml) fn header(tensors: &[Tensor]) -> Vec<u8> {
    let mut at = 0;
    let mut entries = serde_json::Map::new();
    entries.insert(METADATA.into(), serde_json::json!({"format": "pt"}));
    for tensor in tensors {
        let entry = Entry { dtype: "BF16".into(), shape: tensor.shape.clone(), data_offsets: [at, at + tensor.bytes()] };
        at += tensor.bytes();
        entries.insert(tensor.name.clone(), serde_json::to_value(entry).expect("plain data becomes JSON"));
    }
    let mut json = serde_json::Value::Object(entries).to_string().into_bytes();
    // Data begins at a multiple of 8, as the library has it.
    json.resize(json.len().next_multiple_of(8), b' ');
    [&(json.len() as u64).to_le_bytes()[..], &json].concat()
}

/// How long the JSON is.
pub(in crate::ml) fn json_len(prefix: [u8; PREFIX]) -> Result<usize, FormatFault> {
    let len = u64::from_le_bytes(prefix);
    if len > LONGEST { Err(FormatFault::field("the header's length", len)) } else { Ok(len as usize) }
}

/// Where the tensors are in a file of `file_bytes`, in the order of their data.
pub(in crate::ml) fn tensors(json: &[u8], file_bytes: u64) -> Result<Vec<Range<u64>>, FormatFault> {
    let entries: BTreeMap<String, serde_json::Value> = serde_json::from_slice(json)?;
    let data = (PREFIX + json.len()) as u64;
    let mut ranges = Vec::with_capacity(entries.len());
    for (name, entry) in entries.into_iter().filter(|(name, _)| name != METADATA) {
        let [begin, end] = serde_json::from_value::<Entry>(entry)?.data_offsets;
        let fits = begin <= end && end <= file_bytes.saturating_sub(data);
        ranges.push(if fits { Ok(data + begin..data + end) } else { Err(FormatFault::field("where a tensor is", name)) }?);
    }
    ranges.sort_by_key(|range| (range.start, range.end));
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Vec<Tensor> {
        vec![Tensor { name: "b".into(), shape: vec![2, 3] }, Tensor { name: "a".into(), shape: vec![5] }]
    }

    #[test]
    fn a_header_is_read_back_in_the_order_of_the_data() {
        let header = header(&two());
        let len = json_len(header[..PREFIX].try_into().expect("eight")).expect("short");
        assert_eq!(PREFIX + len, header.len());
        let data = header.len() as u64;
        assert_eq!(data % 8, 0);
        let found = tensors(&header[PREFIX..], data + 22).expect("valid");
        assert_eq!(found, [data..data + 12, data + 12..data + 22]);
    }

    #[test]
    fn the_header_is_json_that_ends_in_spaces() {
        let header = header(&[Tensor { name: "w".into(), shape: vec![2, 3] }]);
        let wanted = serde_json::json!({
            "__metadata__": {"format": "pt"},
            "w": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]},
        });
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&header[PREFIX..]).expect("JSON"), wanted);
    }

    #[test]
    fn tensors_outside_the_file_and_headers_without_end_are_faults() {
        let header = header(&two());
        assert!(tensors(&header[PREFIX..], header.len() as u64 + 21).is_err(), "a byte is missing");
        assert!(tensors(b"[]", 100).is_err());
        assert!(tensors(br#"{"a": {"dtype": "U8", "shape": [], "data_offsets": [3, 1]}}"#, 100).is_err());
        assert!(json_len([0xff; PREFIX]).is_err());
    }
}
