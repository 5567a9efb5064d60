//! Names from outside: once parsed, a name is known to be good.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::limits;

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("the name is empty; give at least one character")]
    Empty,
    #[error("the name has {bytes} characters; at most {max} are allowed")]
    TooLong { bytes: usize, max: usize },
    #[error("the name has {found:?} at position {at}; only A-Z a-z 0-9 . _ - are allowed")]
    BadCharacter { found: char, at: usize },
    #[error("the name {0:?} is reserved; a name must hold more than dots")]
    Reserved(String),
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $max:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` and takes it over.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                check(text, $max)?;
                Ok(Self(Arc::from(text)))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// A topic's name: 1 to 249 characters of `[A-Za-z0-9._-]`, not only dots.
    TopicName,
    limits::TOPIC_NAME_BYTES_MAX
);
name!(
    /// A named consumer: the same characters as a topic's name.
    ConsumerName,
    limits::CONSUMER_NAME_BYTES_MAX
);

fn check(text: &str, max: usize) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > max {
        return Err(NameError::TooLong { bytes: text.len(), max });
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if let Some((at, found)) = text.char_indices().find(|(_, c)| !allowed(*c)) {
        return Err(NameError::BadCharacter { found, at });
    }
    if text.bytes().all(|b| b == b'.') {
        return Err(NameError::Reserved(text.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_keep_their_text() {
        let longest = "a".repeat(limits::TOPIC_NAME_BYTES_MAX);
        for text in ["a", "orders.eu-1_x", "-", ".hidden", longest.as_str()] {
            assert_eq!(TopicName::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn bad_names_say_why() {
        let long = "a".repeat(limits::TOPIC_NAME_BYTES_MAX + 1);
        assert_eq!(TopicName::parse(""), Err(NameError::Empty));
        assert_eq!(TopicName::parse(&long), Err(NameError::TooLong { bytes: 250, max: 249 }));
        assert_eq!(TopicName::parse("a b"), Err(NameError::BadCharacter { found: ' ', at: 1 }));
        assert_eq!(TopicName::parse("aé"), Err(NameError::BadCharacter { found: 'é', at: 1 }));
        assert_eq!(TopicName::parse(".."), Err(NameError::Reserved("..".into())));
    }
}
