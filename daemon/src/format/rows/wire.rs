//! The elements rows are made of: bytes, little-endian integers, LEB128 numbers in their shortest form, counted bytes.

use super::{ROW_VERSION, RowError};
use std::collections::BTreeMap;

/// Appends elements to a row.
pub(super) struct Writer(Vec<u8>);

impl Writer {
    /// A row of the present version, with room for `capacity` bytes.
    pub fn row(capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity);
        bytes.push(ROW_VERSION);
        Writer(bytes)
    }

    /// Elements without a version in front.
    pub fn bare(capacity: usize) -> Self {
        Writer(Vec::with_capacity(capacity))
    }

    pub fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    pub fn i64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub fn counted(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.raw(bytes);
    }

    /// Names and values, in order.
    pub fn options(&mut self, options: &BTreeMap<String, String>) {
        self.number(options.len() as u64);
        for (name, value) in options {
            self.counted(name.as_bytes());
            self.counted(value.as_bytes());
        }
    }

    pub fn done(self) -> Vec<u8> {
        self.0
    }
}

/// Takes elements from a row.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Checks the version and stands behind it.
    pub fn row(bytes: &'a [u8]) -> Result<Self, RowError> {
        match bytes.split_first() {
            None => Err(RowError::Short),
            Some((&ROW_VERSION, rest)) => Ok(Reader(rest)),
            Some((&other, _)) => Err(RowError::Version(other)),
        }
    }

    /// Elements without a version in front.
    pub fn bare(bytes: &'a [u8]) -> Self {
        Reader(bytes)
    }

    pub fn byte(&mut self) -> Result<u8, RowError> {
        let (&first, rest) = self.0.split_first().ok_or(RowError::Short)?;
        self.0 = rest;
        Ok(first)
    }

    pub fn le32(&mut self) -> Result<u32, RowError> {
        let (bytes, rest) = self.0.split_first_chunk::<4>().ok_or(RowError::Short)?;
        self.0 = rest;
        Ok(u32::from_le_bytes(*bytes))
    }

    pub fn i64(&mut self) -> Result<i64, RowError> {
        let (bytes, rest) = self.0.split_first_chunk::<8>().ok_or(RowError::Short)?;
        self.0 = rest;
        Ok(i64::from_le_bytes(*bytes))
    }

    /// A number in its shortest form; a longer form of the same number is refused (invariant 2 of the module above).
    pub fn number(&mut self, field: &'static str) -> Result<u64, RowError> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(RowError::Field(field));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return if byte == 0 && shift > 0 { Err(RowError::Field(field)) } else { Ok(value) };
            }
        }
        Err(RowError::Field(field))
    }

    /// A number that fits the type asked for.
    pub fn small<T: TryFrom<u64>>(&mut self, field: &'static str) -> Result<T, RowError> {
        T::try_from(self.number(field)?).map_err(|_| RowError::Field(field))
    }

    pub fn raw(&mut self, len: usize) -> Result<&'a [u8], RowError> {
        if len > self.0.len() {
            return Err(RowError::Short);
        }
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        Ok(taken)
    }

    pub fn counted(&mut self, field: &'static str) -> Result<&'a [u8], RowError> {
        let len = self.small::<usize>(field)?;
        self.raw(len)
    }

    pub fn text(&mut self, field: &'static str) -> Result<String, RowError> {
        let bytes = self.counted(field)?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| RowError::Text(field))
    }

    /// Names and values, in order and none twice.
    pub fn options(&mut self) -> Result<BTreeMap<String, String>, RowError> {
        let mut options: BTreeMap<String, String> = BTreeMap::new();
        for _ in 0..self.number("options")? {
            let (name, value) = (self.text("option")?, self.text("option")?);
            if options.last_key_value().is_some_and(|(last, _)| *last >= name) {
                return Err(RowError::Field("options"));
            }
            options.insert(name, value);
        }
        Ok(options)
    }

    /// The rest of the row.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    pub fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    pub fn end(self) -> Result<(), RowError> {
        if self.0.is_empty() { Ok(()) } else { Err(RowError::Trailing(self.0.len())) }
    }
}
