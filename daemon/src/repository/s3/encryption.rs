//! Who encrypts objects, and the headers that say so.

use super::call::Headers;
use base64::Engine;
use md5::{Digest, Md5};

/// A customer's encryption key (SSE-C), as sent with every request that reads or writes an object's bytes.
#[derive(Clone)]
pub struct CustomerKey {
    key: String,
    md5: String,
}

impl CustomerKey {
    /// From the base64 form of a 256-bit key; `None` if it is none.
    pub fn from_base64(text: &str) -> Option<Self> {
        let engine = base64::engine::general_purpose::STANDARD;
        let key = engine.decode(text.trim()).ok().filter(|key| key.len() == 32)?;
        Some(CustomerKey { key: engine.encode(&key), md5: engine.encode(Md5::digest(&key)) })
    }
}

/// How objects are encrypted at rest.
#[derive(Clone, Default)]
pub enum Encryption {
    /// As the bucket says.
    #[default]
    AsBucket,
    /// By the store; matters when objects are written.
    Store {
        /// `AES256`, `aws:kms` or `aws:kms:dsse`.
        algorithm: &'static str,
        /// The KMS key; the account's default one for `None`.
        key_id: Option<String>,
    },
    /// With a key of the customer's.
    Customer(CustomerKey),
}

impl Encryption {
    /// For requests about an object's bytes: GET, HEAD, parts, the end of a multipart upload.
    pub fn about(&self, headers: &mut Headers) {
        if let Encryption::Customer(customer) = self {
            headers.set("x-amz-server-side-encryption-customer-algorithm", "AES256");
            headers.set("x-amz-server-side-encryption-customer-key", &*customer.key);
            headers.set("x-amz-server-side-encryption-customer-key-md5", &*customer.md5);
        }
    }

    /// For requests that make an object: PUT, copy, the begin of a multipart upload.
    pub fn making(&self, headers: &mut Headers) {
        self.about(headers);
        if let Encryption::Store { algorithm, key_id } = self {
            headers.set("x-amz-server-side-encryption", *algorithm);
            if let Some(key_id) = key_id {
                headers.set("x-amz-server-side-encryption-aws-kms-key-id", &**key_id);
            }
        }
    }

    /// For copies, about the source.
    pub fn source(&self, headers: &mut Headers) {
        if let Encryption::Customer(customer) = self {
            headers.set("x-amz-copy-source-server-side-encryption-customer-algorithm", "AES256");
            headers.set("x-amz-copy-source-server-side-encryption-customer-key", &*customer.key);
            headers.set("x-amz-copy-source-server-side-encryption-customer-key-md5", &*customer.md5);
        }
    }
}
