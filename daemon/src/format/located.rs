//! Located keys: an object's key together with the association whose bucket it is in, in one string.
//!
//! Wherever the rows, the directories in use and the requests to the store name an object, they name it so. A key of the root's association is
//! itself; any other begins with [`TAG`], the association's number in decimal and a colon. So a prefix of a located key is the located prefix, one
//! bucket's keys lie together and in their order, and a file system with one bucket pays nothing for there being more.
//!
//! ```text
//! raw/a.bin                 key raw/a.bin in the root's bucket
//! U+10FFFF 7 : raw/a.bin    key raw/a.bin in the bucket of association 7
//! ```
//!
//! [`TAG`] is the last code point of Unicode, which is no character; names that begin with it are hidden, and nothing is exported under one.

use crate::ids::AssociationId;

/// What begins a key that is not of the root's association.
pub const TAG: char = '\u{10FFFF}';

/// A bucket's key as the rest of Forebay names it.
pub fn locate(association: AssociationId, key: &str) -> String {
    if association == AssociationId::ROOT { key.to_owned() } else { format!("{TAG}{}:{key}", association.0) }
}

/// The association and the bucket's own key in a located one. What no [`locate`] makes is a key of the root's bucket.
pub fn split(located: &str) -> (AssociationId, &str) {
    tagged(located).unwrap_or((AssociationId::ROOT, located))
}

/// The association of a located key.
pub fn association_of(located: &str) -> AssociationId {
    split(located).0
}

/// The bucket's own key in a located one.
pub fn bare(located: &str) -> &str {
    split(located).1
}

/// What the keys in the directory of a located key start with: the key as far as its last slash, or what every key of the bucket starts with.
pub fn parent_prefix(located: &str) -> &str {
    let key = bare(located);
    &located[..located.len() - key.len() + key.rfind('/').map_or(0, |slash| slash + 1)]
}

fn tagged(located: &str) -> Option<(AssociationId, &str)> {
    let (number, key) = located.strip_prefix(TAG)?.split_once(':')?;
    let is_plain = !number.is_empty() && !number.starts_with('0') && number.bytes().all(|byte| byte.is_ascii_digit());
    Some((AssociationId(number.parse().ok().filter(|_| is_plain)?), key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_with_their_association() {
        for id in [AssociationId::ROOT, AssociationId(1), AssociationId(70), AssociationId::NONE] {
            for key in ["", "a", "a/b:c/", ":", "7:x", "é/\u{10FFFE}"] {
                assert_eq!(split(&locate(id, key)), (id, key), "{id} {key}");
            }
        }
    }

    #[test]
    fn a_located_prefix_is_the_prefix_of_the_located_key_and_of_no_others() {
        let key = locate(AssociationId(7), "raw/a.bin");
        assert!(key.starts_with(&locate(AssociationId(7), "raw/")));
        assert!(!locate(AssociationId(71), "raw/").starts_with(&locate(AssociationId(7), "")));
        assert_eq!((bare(&key), association_of(&key)), ("raw/a.bin", AssociationId(7)));
        assert_eq!(parent_prefix(&key), locate(AssociationId(7), "raw/"));
        assert_eq!(parent_prefix(&locate(AssociationId(7), "a")), locate(AssociationId(7), ""));
        assert_eq!((parent_prefix("a/b/c"), parent_prefix("a")), ("a/b/", ""));
    }

    #[test]
    fn what_was_never_located_is_the_roots() {
        for odd in [
            "\u{10FFFF}",
            "\u{10FFFF}:",
            "\u{10FFFF}x:y",
            "\u{10FFFF}07:y",
            "\u{10FFFF}0:y",
            "\u{10FFFF}99999999999:y",
            "\u{10FFFF}7",
        ] {
            assert_eq!(split(odd), (AssociationId::ROOT, odd), "{odd}");
        }
    }
}
