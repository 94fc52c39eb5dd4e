//! Sizes: the sector, and byte counts as people write them.

use std::fmt;
use std::str::FromStr;

/// The unit of device I/O, alignment and raw-frame checksums, in bytes.
pub const SECTOR: usize = 4096;
/// 1024 bytes.
pub const KIB: u64 = 1 << 10;
/// 1024 KiB.
pub const MIB: u64 = 1 << 20;
/// 1024 MiB.
pub const GIB: u64 = 1 << 30;

/// Rounds up to whole sectors.
pub const fn sector_up(bytes: usize) -> usize {
    bytes.next_multiple_of(SECTOR)
}

/// Rounds down to whole sectors.
pub const fn sector_down(bytes: usize) -> usize {
    bytes - bytes % SECTOR
}

/// A number of bytes. Parses `4096`, `128K`, `128KiB`, `10G`, `1.5T` (powers of 1024 throughout, as mount options have it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct ByteCount(pub u64);

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const STEPS: [(u64, &str); 5] = [(1 << 50, "PiB"), (1 << 40, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")];
        for (unit, name) in STEPS {
            if self.0 >= unit {
                return if self.0.is_multiple_of(unit) {
                    write!(f, "{} {name}", self.0 / unit)
                } else {
                    write!(f, "{:.1} {name}", self.0 as f64 / unit as f64)
                };
            }
        }
        write!(f, "{} B", self.0)
    }
}

/// A size that is not a number with an optional unit.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' is not a size: write a number with K, M, G or T, as in 512M or 1.5T")]
pub struct BadSize(pub String);

impl FromStr for ByteCount {
    type Err = BadSize;

    fn from_str(text: &str) -> Result<Self, BadSize> {
        let bad = || BadSize(text.to_owned());
        let trimmed = text.trim();
        let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(digits);
        let number: f64 = number.parse().map_err(|_| bad())?;
        let unit = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kb" | "kib" => KIB,
            "m" | "mb" | "mib" => MIB,
            "g" | "gb" | "gib" => GIB,
            "t" | "tb" | "tib" => 1 << 40,
            _ => return Err(bad()),
        };
        let bytes = number * unit as f64;
        if !bytes.is_finite() || bytes > (1u64 << 62) as f64 {
            return Err(bad());
        }
        Ok(ByteCount(bytes as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_parse_as_people_write_them() {
        for (text, bytes) in [("0", 0), ("4096", 4096), ("128K", 131072), ("128 KiB", 131072), ("1.5M", 1572864), ("2g", 2 * GIB)]
        {
            assert_eq!(text.parse::<ByteCount>(), Ok(ByteCount(bytes)), "{text}");
        }
        for text in ["", "G", "-1", "1X", "1e99T", "."] {
            assert!(text.parse::<ByteCount>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_print_in_the_largest_unit() {
        assert_eq!(ByteCount(131072).to_string(), "128 KiB");
        assert_eq!(ByteCount(1572864).to_string(), "1.5 MiB");
        assert_eq!(ByteCount(7).to_string(), "7 B");
    }
}
