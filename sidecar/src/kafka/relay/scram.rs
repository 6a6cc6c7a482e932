//! The client's side of SCRAM (RFC 5802, RFC 7677), with the extension by which Kafka takes delegation tokens
//! (`tokenauth=true`: KIP-48).

use openssl::hash::MessageDigest;
use openssl::pkcs5;
use openssl::pkey::PKey;
use openssl::sign::Signer;

use crate::config::{DelegationToken, ScramHash};

/// More iterations are no server's: each costs time, and Kafka's own default is 4096.
const MOST_ITERATIONS: usize = 1_000_000;
/// RFC 7677 asks for as many; Kafka's own client takes no fewer.
const LEAST_ITERATIONS: usize = 4096;
/// RFC 5802's header: no channel binding, no other identity.
const HEADER: &str = "n,,";

/// A conversation that has begun: its first message is there to be sent.
pub(super) struct Scram<'a> {
    token: &'a DelegationToken,
    nonce: String,
}

/// One whose last message of the client is there to be sent.
pub(super) struct Proved {
    /// The message.
    pub(super) message: String,
    server_signature: Vec<u8>,
}

impl<'a> Scram<'a> {
    /// A conversation with a nonce of its own.
    ///
    /// # Errors
    /// There is no randomness.
    pub(super) fn new(token: &'a DelegationToken) -> Result<Self, String> {
        let mut bytes = [0; 24];
        openssl::rand::rand_bytes(&mut bytes).map_err(|_| "there is no randomness for a nonce".to_owned())?;
        Ok(Self::with_nonce(token, openssl::base64::encode_block(&bytes)))
    }

    /// One with a nonce that is given: printable, and without commas.
    pub(super) fn with_nonce(token: &'a DelegationToken, nonce: String) -> Self {
        Self { token, nonce }
    }

    /// The first message.
    pub(super) fn first(&self) -> String {
        format!("{HEADER}{}", self.bare())
    }

    fn bare(&self) -> String {
        let name = self.token.id.expose().replace('=', "=3D").replace(',', "=2C");
        format!("n={name},r={},tokenauth=true", self.nonce)
    }

    /// Answers the server's first message.
    ///
    /// # Errors
    /// What is wrong with it, without secrets.
    pub(super) fn prove(&self, server_first: &[u8]) -> Result<Proved, String> {
        let text =
            std::str::from_utf8(server_first).map_err(|_| "its SCRAM message is no text".to_owned())?;
        let (nonce, salt, iterations) = first_of_server(text)?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("its SCRAM message answers another one: the nonce is not ours".to_owned());
        }
        let digest = digest(self.token.hash);
        let failed = |_| "SCRAM cannot be computed: OpenSSL has no such hash".to_owned();
        let mut salted = vec![0; digest.size()];
        pkcs5::pbkdf2_hmac(
            self.token.hmac.expose().as_bytes(),
            &salt,
            iterations,
            digest,
            &mut salted,
        )
        .map_err(failed)?;
        let client_key = hmac(digest, &salted, b"Client Key").map_err(failed)?;
        let stored_key = openssl::hash::hash(digest, &client_key).map_err(failed)?;
        let without_proof = format!("c={},r={nonce}", openssl::base64::encode_block(HEADER.as_bytes()));
        let signed = format!("{},{text},{without_proof}", self.bare());
        let signature = hmac(digest, &stored_key, signed.as_bytes()).map_err(failed)?;
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        let server_key = hmac(digest, &salted, b"Server Key").map_err(failed)?;
        Ok(Proved {
            message: format!("{without_proof},p={}", openssl::base64::encode_block(&proof)),
            server_signature: hmac(digest, &server_key, signed.as_bytes()).map_err(failed)?,
        })
    }
}

impl Proved {
    /// Looks at the server's last message: whether it knows the token, too.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn verify(&self, server_last: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(server_last).map_err(|_| "its SCRAM message is no text".to_owned())?;
        let mut attributes = text.split(',');
        match attributes.next().and_then(|one| one.split_once('=')) {
            Some(("v", signature)) => {
                let signature = openssl::base64::decode_block(signature).unwrap_or_default();
                let same = signature.len() == self.server_signature.len()
                    && openssl::memcmp::eq(&signature, &self.server_signature);
                if same {
                    Ok(())
                } else {
                    Err("it does not know the token: its SCRAM signature is wrong".to_owned())
                }
            }
            Some(("e", why)) => Err(format!("it says {}", printable(why))),
            _ => Err("its last SCRAM message has neither signature nor error".to_owned()),
        }
    }
}

/// The nonce, the salt and the iterations of `r=…,s=…,i=…`, which may have extensions behind them.
///
/// # Errors
/// What is wrong with it.
pub(super) fn first_of_server(text: &str) -> Result<(&str, Vec<u8>, usize), String> {
    let mut attributes = text.split(',').map(|one| one.split_once('='));
    let mut next = |wanted: &str| match attributes.next().flatten() {
        Some((name, value)) if name == wanted => Ok(value),
        Some(("m", _)) => Err("its SCRAM message asks for an extension that nobody knows".to_owned()),
        Some(("e", why)) => Err(format!("it says {}", printable(why))),
        _ => Err(format!("its first SCRAM message has no `{wanted}`")),
    };
    let (nonce, salt, iterations) = (next("r")?, next("s")?, next("i")?);
    let salt = openssl::base64::decode_block(salt)
        .ok()
        .filter(|salt| !salt.is_empty())
        .ok_or("its first SCRAM message has no salt")?;
    let iterations: usize = iterations
        .parse()
        .map_err(|_| "its first SCRAM message has no number of iterations".to_owned())?;
    if !(LEAST_ITERATIONS..=MOST_ITERATIONS).contains(&iterations) {
        return Err(format!(
            "it asks for {iterations} iterations of SCRAM, and {LEAST_ITERATIONS} to {MOST_ITERATIONS} are taken"
        ));
    }
    Ok((nonce, salt, iterations))
}

/// A server's word, short and without control characters.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}

fn digest(hash: ScramHash) -> MessageDigest {
    match hash {
        ScramHash::Sha256 => MessageDigest::sha256(),
        ScramHash::Sha512 => MessageDigest::sha512(),
    }
}

fn hmac(digest: MessageDigest, key: &[u8], data: &[u8]) -> Result<Vec<u8>, openssl::error::ErrorStack> {
    let key = PKey::hmac(key)?;
    let mut signer = Signer::new(digest, &key)?;
    signer.sign_oneshot_to_vec(data)
}

/// What a server signs with SHA-256, as RFC 5802 has it for the server's side.
#[cfg(test)]
pub(super) fn server_signature(password: &str, salt: &[u8], iterations: usize, said: &str) -> Vec<u8> {
    let digest = MessageDigest::sha256();
    let mut salted = vec![0; digest.size()];
    pkcs5::pbkdf2_hmac(password.as_bytes(), salt, iterations, digest, &mut salted).unwrap();
    let server_key = hmac(digest, &salted, b"Server Key").unwrap();
    hmac(digest, &server_key, said.as_bytes()).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn token(hash: ScramHash, id: &str, hmac: &str) -> DelegationToken {
        DelegationToken {
            hash,
            id: Secret::new(id),
            hmac: Secret::new(hmac),
        }
    }

    /// What a server knows of RFC 7677's example, computed here as RFC 5802 says: with the extension, the numbers of the
    /// RFC itself are others.
    fn server(hash: ScramHash, password: &str, salt: &[u8], said: &str) -> (Vec<u8>, Vec<u8>) {
        let digest = digest(hash);
        let mut salted = vec![0; digest.size()];
        pkcs5::pbkdf2_hmac(password.as_bytes(), salt, 4096, digest, &mut salted).unwrap();
        let client_key = hmac(digest, &salted, b"Client Key").unwrap();
        let stored_key = openssl::hash::hash(digest, &client_key).unwrap().to_vec();
        let server_key = hmac(digest, &salted, b"Server Key").unwrap();
        (
            hmac(digest, &stored_key, said.as_bytes()).unwrap(),
            hmac(digest, &server_key, said.as_bytes()).unwrap(),
        )
    }

    #[test]
    fn the_salted_password_is_that_of_rfc_7677() {
        // Section 3: the proof and the signature of user `user`, password `pencil`, without the extension.
        let salt = openssl::base64::decode_block("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let said = "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                    s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
                    c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let signature = server_signature("pencil", &salt, 4096, said);
        assert_eq!(
            openssl::base64::encode_block(&signature),
            "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
        );
    }

    #[test]
    fn a_conversation_proves_both_sides() {
        for hash in [ScramHash::Sha256, ScramHash::Sha512] {
            let token = token(hash, "a,b=c", "pencil");
            let scram = Scram::with_nonce(&token, "ours".to_owned());
            assert_eq!(scram.first(), "n,,n=a=2Cb=3Dc,r=ours,tokenauth=true");
            let first = "r=ourstheirs,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
            let proved = scram.prove(first.as_bytes()).unwrap();
            let (without, proof) = proved.message.split_once(",p=").unwrap();
            assert_eq!(without, "c=biws,r=ourstheirs");
            // As the server does: the proof and the client's signature give the client's key.
            let salt = openssl::base64::decode_block("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
            let said = format!("n=a=2Cb=3Dc,r=ours,tokenauth=true,{first},{without}");
            let (client_signature, server_signature) = server(hash, "pencil", &salt, &said);
            let proof = openssl::base64::decode_block(proof).unwrap();
            let key: Vec<u8> = proof.iter().zip(&client_signature).map(|(a, b)| a ^ b).collect();
            let mut salted = vec![0; digest(hash).size()];
            pkcs5::pbkdf2_hmac(b"pencil", &salt, 4096, digest(hash), &mut salted).unwrap();
            assert_eq!(key, hmac(digest(hash), &salted, b"Client Key").unwrap());
            let last = format!("v={}", openssl::base64::encode_block(&server_signature));
            proved.verify(last.as_bytes()).unwrap();
            for (last, expected) in [
                ("v=AAAA", "it does not know the token"),
                ("v=", "it does not know the token"),
                ("e=invalid-proof", "it says invalid-proof"),
                ("x", "neither signature nor error"),
            ] {
                assert!(
                    proved.verify(last.as_bytes()).unwrap_err().contains(expected),
                    "{last}"
                );
            }
        }
    }

    #[test]
    fn nonces_are_new_each_time() {
        let token = token(ScramHash::Sha256, "a", "b");
        let [a, b] = [(); 2].map(|()| Scram::new(&token).unwrap().first());
        assert_ne!(a, b);
    }

    #[test]
    fn a_server_that_says_something_else_is_told() {
        let token = token(ScramHash::Sha256, "a", "hunter2");
        let scram = Scram::with_nonce(&token, "ours".to_owned());
        for (first, expected) in [
            ("", "no `r`"),
            ("r=ours", "no `s`"),
            ("r=oursx,s=AAAA", "no `i`"),
            ("r=oursx,s=,i=4096", "no salt"),
            ("r=oursx,s=!,i=4096", "no salt"),
            ("r=oursx,s=AAAA,i=x", "no number of iterations"),
            ("r=oursx,s=AAAA,i=1", "asks for 1 iterations"),
            ("r=oursx,s=AAAA,i=99999999999", "asks for 99999999999 iterations"),
            ("r=ours,s=AAAA,i=4096", "the nonce is not ours"),
            ("r=theirs,s=AAAA,i=4096", "the nonce is not ours"),
            ("m=x,r=oursx,s=AAAA,i=4096", "an extension that nobody knows"),
            ("e=other-error", "it says other-error"),
        ] {
            let why = scram.prove(first.as_bytes()).err().unwrap();
            assert!(why.contains(expected), "{first}: {why}");
            assert!(!why.contains("hunter2"), "{why}");
        }
        assert!(scram.prove(b"\xff").is_err());
    }
}
