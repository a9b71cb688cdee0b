//! What TLS connections are made with.
//!
//! Less than `rustls` brings, because what is not offered is not in the function either, whose size its start depends on:
//! AES-GCM over P-256 and P-384, which every TLS 1.3 server has to know (RFC 8446, section 9.1) and every AWS endpoint and
//! Java's TLS 1.2 do. Missing are ChaCha20-Poly1305, X25519, and certificates of our own.

use std::sync::Arc;

use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::SignatureScheme;
use rustls::crypto::ring::{cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom, WebPkiSupportedAlgorithms};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::SigningKey;
use webpki::ring as certificates;

/// The algorithms on offer.
pub(super) fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        ],
        kx_groups: vec![kx_group::SECP256R1, kx_group::SECP384R1],
        signature_verification_algorithms: CERTIFICATES,
        secure_random: &System,
        key_provider: &System,
    }
}

/// Fills `bytes` with what nobody can guess; false when the system has none to give.
pub(super) fn fill(bytes: &mut [u8]) -> bool {
    SystemRandom::new().fill(bytes).is_ok()
}

/// Signatures of servers and their certificates.
static CERTIFICATES: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[
        certificates::ECDSA_P256_SHA256,
        certificates::ECDSA_P256_SHA384,
        certificates::ECDSA_P384_SHA256,
        certificates::ECDSA_P384_SHA384,
        certificates::ED25519,
        certificates::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
        certificates::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
        certificates::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
        certificates::RSA_PKCS1_2048_8192_SHA256,
        certificates::RSA_PKCS1_2048_8192_SHA384,
        certificates::RSA_PKCS1_2048_8192_SHA512,
        certificates::RSA_PKCS1_2048_8192_SHA256_ABSENT_PARAMS,
        certificates::RSA_PKCS1_2048_8192_SHA384_ABSENT_PARAMS,
        certificates::RSA_PKCS1_2048_8192_SHA512_ABSENT_PARAMS,
    ],
    // TLS 1.2 does not tie the curve to the hash; TLS 1.3 takes the first of each.
    mapping: &[
        (
            SignatureScheme::ECDSA_NISTP256_SHA256,
            &[certificates::ECDSA_P256_SHA256, certificates::ECDSA_P384_SHA256],
        ),
        (
            SignatureScheme::ECDSA_NISTP384_SHA384,
            &[certificates::ECDSA_P384_SHA384, certificates::ECDSA_P256_SHA384],
        ),
        (SignatureScheme::ED25519, &[certificates::ED25519]),
        (
            SignatureScheme::RSA_PSS_SHA256,
            &[certificates::RSA_PSS_2048_8192_SHA256_LEGACY_KEY],
        ),
        (
            SignatureScheme::RSA_PSS_SHA384,
            &[certificates::RSA_PSS_2048_8192_SHA384_LEGACY_KEY],
        ),
        (
            SignatureScheme::RSA_PSS_SHA512,
            &[certificates::RSA_PSS_2048_8192_SHA512_LEGACY_KEY],
        ),
        (
            SignatureScheme::RSA_PKCS1_SHA256,
            &[certificates::RSA_PKCS1_2048_8192_SHA256],
        ),
        (
            SignatureScheme::RSA_PKCS1_SHA384,
            &[certificates::RSA_PKCS1_2048_8192_SHA384],
        ),
        (
            SignatureScheme::RSA_PKCS1_SHA512,
            &[certificates::RSA_PKCS1_2048_8192_SHA512],
        ),
    ],
};

/// The system's random numbers, and no keys of ours.
#[derive(Debug)]
struct System;

impl SecureRandom for System {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        if fill(bytes) { Ok(()) } else { Err(GetRandomFailed) }
    }
}

impl KeyProvider for System {
    fn load_private_key(&self, _: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, rustls::Error> {
        Err(rustls::Error::General(
            "no server is shown a certificate of ours".to_owned(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// By the names that certificates have for them.
    type Names = Vec<(Vec<u8>, Vec<u8>)>;

    fn schemes(provider: &CryptoProvider) -> Vec<(SignatureScheme, Names)> {
        let mapping = provider.signature_verification_algorithms.mapping.iter();
        let mut schemes: Vec<_> = mapping
            .map(|(scheme, algorithms)| {
                let name = |one: &&dyn rustls::pki_types::SignatureVerificationAlgorithm| {
                    (
                        one.public_key_alg_id().as_ref().to_vec(),
                        one.signature_alg_id().as_ref().to_vec(),
                    )
                };
                (*scheme, algorithms.iter().map(name).collect())
            })
            .collect();
        schemes.sort_by_key(|(scheme, _)| u16::from(*scheme));
        schemes
    }

    #[test]
    fn certificates_are_checked_as_rustls_checks_them() {
        let (ours, theirs) = (provider(), rustls::crypto::ring::default_provider());
        assert_eq!(schemes(&ours), schemes(&theirs));
        let all = |provider: &CryptoProvider| -> BTreeSet<String> {
            let all = provider.signature_verification_algorithms.all.iter();
            all.map(|one| format!("{one:?}")).collect()
        };
        assert_eq!(all(&ours), all(&theirs));
    }

    #[test]
    fn what_is_left_out_is_what_the_documentation_says() {
        let (ours, theirs) = (provider(), rustls::crypto::ring::default_provider());
        let suites = |provider: &CryptoProvider| -> BTreeSet<String> {
            provider
                .cipher_suites
                .iter()
                .map(|suite| format!("{:?}", suite.suite()))
                .collect()
        };
        let left_out: Vec<_> = suites(&theirs).difference(&suites(&ours)).cloned().collect();
        assert!(
            left_out.iter().all(|suite| suite.contains("CHACHA20_POLY1305")),
            "{left_out:?}"
        );
        assert_eq!((left_out.len(), suites(&ours).len()), (3, 6));
        let groups = |provider: &CryptoProvider| -> BTreeSet<String> {
            provider
                .kx_groups
                .iter()
                .map(|group| format!("{:?}", group.name()))
                .collect()
        };
        let left_out: Vec<_> = groups(&theirs).difference(&groups(&ours)).cloned().collect();
        assert_eq!(left_out, ["X25519"]);
    }
}
