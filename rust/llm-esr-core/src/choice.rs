//! Options that are one of a few names.

use crate::{Error, Result};

/// An option that is one of a few names.
pub trait Choice: Copy + 'static {
    /// The option, as the caller knows it.
    const OPTION: &'static str;
    /// Each value by its name.
    const NAMES: &'static [(&'static str, Self)];
    /// Whether the option may also be left out.
    const OPTIONAL: bool = false;

    /// The value of a name.
    ///
    /// # Errors
    /// Another name; the message has those that there are.
    fn named(name: &str) -> Result<Self> {
        if let Some((_, value)) = Self::NAMES.iter().find(|(known, _)| *known == name) {
            return Ok(*value);
        }
        let mut known: Vec<String> = Self::NAMES.iter().map(|(n, _)| format!("'{n}'")).collect();
        if Self::OPTIONAL {
            known.push("None".into());
        }
        let last = known.pop().unwrap_or_default();
        let message = format!("'{name}'; expected {} or {last}", known.join(", "));
        Err(Error::argument(Self::OPTION, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Size {
        Small,
        Large,
    }

    impl Choice for Size {
        const OPTION: &'static str = "size";
        const NAMES: &'static [(&'static str, Self)] =
            &[("small", Self::Small), ("large", Self::Large)];
        const OPTIONAL: bool = true;
    }

    #[test]
    fn a_name_gives_its_value_and_another_one_the_names_that_there_are() {
        assert_eq!(Size::named("large").unwrap(), Size::Large);
        assert_eq!(Size::named("small").unwrap(), Size::Small);
        let said = Size::named("huge").unwrap_err().to_string();
        assert_eq!(said, "size: 'huge'; expected 'small', 'large' or None");
    }
}
