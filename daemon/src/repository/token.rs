//! Who wrote an object: a random token in its user metadata, by which a write whose reply got lost knows its own work again.

use super::posix::AGENT;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Names one write for good. The caller keeps it (in a journal, say) for as long as it may ask whether the write happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WriteToken(u128);

/// Not a [`WriteToken`]'s text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a write token is 32 hexadecimal digits")]
pub struct BadToken;

const PRODUCT: &str = concat!("forebay/", env!("CARGO_PKG_VERSION"));

impl WriteToken {
    /// A fresh one.
    pub fn random() -> Self {
        WriteToken(uuid::Uuid::new_v4().as_u128())
    }

    /// From bits of one's own.
    pub fn from_bits(bits: u128) -> Self {
        WriteToken(bits)
    }

    /// The same bits again.
    pub fn bits(self) -> u128 {
        self.0
    }

    /// The token in user metadata, if there is one.
    pub fn read(metadata: &BTreeMap<String, String>) -> Option<Self> {
        let (_, token) = metadata.get(AGENT)?.strip_prefix("forebay/")?.split_once(' ')?;
        token.parse().ok()
    }

    /// The value of `user-agent` in the metadata of what is written under it: `forebay/0.1.0 <32 hexadecimal digits>`.
    pub fn agent(self) -> String {
        format!("{PRODUCT} {self}")
    }

    /// Whether this user metadata is that of an object written under it, by whatever version of Forebay.
    pub fn wrote(self, metadata: &BTreeMap<String, String>) -> bool {
        Self::read(metadata) == Some(self)
    }
}

impl fmt::Display for WriteToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for WriteToken {
    type Err = BadToken;

    fn from_str(text: &str) -> Result<Self, BadToken> {
        let is_hex = text.len() == 32 && text.bytes().all(|c| c.is_ascii_hexdigit());
        is_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten().map(WriteToken).ok_or(BadToken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_again() {
        let token = WriteToken::random();
        let metadata = BTreeMap::from([(AGENT.to_owned(), token.agent())]);
        assert!(token.wrote(&metadata));
        assert!(!WriteToken::random().wrote(&metadata));
        assert_eq!(token.to_string().parse(), Ok(token));
        let older = BTreeMap::from([(AGENT.to_owned(), format!("forebay/0.0.1 {token}"))]);
        assert!(token.wrote(&older));
    }

    #[test]
    fn what_others_write_is_nobodys_token() {
        for text in ["aws-fsx-lustre", "forebay/1", "forebay/1 ", "forebay/1 +0000000000000000000000000000001", ""] {
            assert!(!WriteToken::from_bits(1).wrote(&BTreeMap::from([(AGENT.to_owned(), text.to_owned())])), "{text}");
        }
    }
}
