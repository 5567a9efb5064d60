//! Telling two data directories apart without showing the secret of either.

use sha2::{Digest, Sha256};

/// Length of an identity, bytes.
pub const IDENTITY_BYTES: usize = 32;

/// A hash of a directory's secret and of what the asker has made up: who knows the secret can
/// compare it, who does not learns nothing of it, and it cannot be used a second time.
#[must_use]
pub fn identity(secret: &[u8; 16], nonce: &[u8]) -> [u8; IDENTITY_BYTES] {
    let mut hash = Sha256::new();
    hash.update(b"corelane data directory\0");
    hash.update((nonce.len() as u64).to_le_bytes());
    hash.update(nonce);
    hash.update(secret);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_and_questions_have_identities_of_their_own() {
        let one = identity(&[1; 16], b"a");
        assert_eq!(one, identity(&[1; 16], b"a"));
        assert_ne!(one, identity(&[2; 16], b"a"));
        assert_ne!(one, identity(&[1; 16], b"b"));
    }
}
