//! Access control lists, with grant options and grantors, as the server keeps them.

use serde::{Deserialize, Serialize};

use super::super::error::{SqlError, code};
use super::{GrantObject, Oid, PUBLIC};

/// A set of rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Rights(u16);

/// The rights with their letters and words, in the order in which the server prints them.
const NAMES: &[(Rights, char, &str)] = &[
    (Rights::INSERT, 'a', "INSERT"),
    (Rights::SELECT, 'r', "SELECT"),
    (Rights::UPDATE, 'w', "UPDATE"),
    (Rights::DELETE, 'd', "DELETE"),
    (Rights::TRUNCATE, 'D', "TRUNCATE"),
    (Rights::REFERENCES, 'x', "REFERENCES"),
    (Rights::TRIGGER, 't', "TRIGGER"),
    (Rights::EXECUTE, 'X', "EXECUTE"),
    (Rights::USAGE, 'U', "USAGE"),
    (Rights::CREATE, 'C', "CREATE"),
];

impl Rights {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const INSERT: Self = Self(1);
    pub(crate) const SELECT: Self = Self(1 << 1);
    pub(crate) const UPDATE: Self = Self(1 << 2);
    pub(crate) const DELETE: Self = Self(1 << 3);
    pub(crate) const TRUNCATE: Self = Self(1 << 4);
    pub(crate) const REFERENCES: Self = Self(1 << 5);
    pub(crate) const TRIGGER: Self = Self(1 << 6);
    pub(crate) const EXECUTE: Self = Self(1 << 7);
    pub(crate) const USAGE: Self = Self(1 << 8);
    pub(crate) const CREATE: Self = Self(1 << 9);
    pub(crate) const TABLE: Self = Self(0b111_1111);
    pub(crate) const COLUMN: Self =
        Self(Self::INSERT.0 | Self::SELECT.0 | Self::UPDATE.0 | Self::REFERENCES.0);
    pub(crate) const SEQUENCE: Self = Self(Self::SELECT.0 | Self::UPDATE.0 | Self::USAGE.0);
    pub(crate) const SCHEMA: Self = Self(Self::USAGE.0 | Self::CREATE.0);

    pub(crate) fn from_word(word: &str) -> Option<Self> {
        NAMES
            .iter()
            .find(|(_, _, name)| name.eq_ignore_ascii_case(word))
            .map(|(right, _, _)| *right)
    }

    /// The word behind a letter of an `aclitem`.
    pub(crate) fn from_letter(letter: char) -> Option<&'static str> {
        NAMES.iter().find(|(_, known, _)| *known == letter).map(|(_, _, word)| *word)
    }

    pub(crate) fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub(crate) fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) fn is_none(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(crate) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The words of the set, in the order of the letters.
    pub(crate) fn words(self) -> impl Iterator<Item = (Self, &'static str)> {
        NAMES
            .iter()
            .filter(move |(right, _, _)| self.has(*right))
            .map(|(right, _, word)| (*right, *word))
    }
}

/// What one role gave to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AclItem {
    pub(crate) grantee: Oid,
    pub(crate) grantor: Oid,
    pub(crate) rights: Rights,
    /// Rights the grantee may hand on.
    pub(crate) options: Rights,
}

impl AclItem {
    /// Prints the letters, with a star behind each right that may be handed on.
    pub(crate) fn letters(&self) -> String {
        let mut printed = String::new();
        for (right, letter, _) in NAMES.iter().filter(|(right, _, _)| self.rights.has(*right)) {
            printed.push(*letter);
            if self.options.has(*right) {
                printed.push('*');
            }
        }
        printed
    }
}

/// The rights on one object.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Acl(pub(crate) Vec<AclItem>);

impl Acl {
    /// The rights an object has while nobody granted or revoked anything.
    pub(crate) fn default_for(object: GrantObject, owner: Oid) -> Self {
        let mut acl = Self::default();
        if object == GrantObject::Function {
            acl.add(PUBLIC, owner, Rights::EXECUTE, Rights::NONE);
        }
        acl.add(owner, owner, object.all_rights(), Rights::NONE);
        acl
    }

    /// Adds rights to the entry of this grantee and grantor.
    pub(crate) fn add(&mut self, grantee: Oid, grantor: Oid, rights: Rights, options: Rights) {
        let same = |item: &&mut AclItem| item.grantee == grantee && item.grantor == grantor;
        if let Some(item) = self.0.iter_mut().find(same) {
            item.rights = item.rights.or(rights);
            item.options = item.options.or(options);
        } else if !rights.is_none() {
            self.0.push(AclItem { grantee, grantor, rights, options });
        }
    }

    /// Collects what the given roles hold; `roles` answers whether an entry counts.
    pub(crate) fn held(&self, counts: impl Fn(Oid) -> bool) -> Rights {
        let items = self.0.iter().filter(|item| item.grantee == PUBLIC || counts(item.grantee));
        items.fold(Rights::NONE, |sum, item| sum.or(item.rights))
    }

    /// Collects what the given roles may hand on; nothing granted to everybody ever counts.
    pub(crate) fn grantable(&self, counts: impl Fn(Oid) -> bool) -> Rights {
        let items = self.0.iter().filter(|item| item.grantee != PUBLIC && counts(item.grantee));
        items.fold(Rights::NONE, |sum, item| sum.or(item.options))
    }

    /// Takes rights (or only the options on them) from an entry, and what hangs on them.
    pub(crate) fn revoke(&mut self, taken: &Revocation, owner: Oid) -> Result<(), SqlError> {
        let before = self.options_of(taken.grantee, owner);
        for item in &mut self.0 {
            if item.grantee == taken.grantee && item.grantor == taken.grantor {
                item.options = item.options.without(taken.rights);
                if !taken.options_only {
                    item.rights = item.rights.without(taken.rights);
                }
            }
        }
        self.0.retain(|item| !item.rights.is_none());
        let lost = before.without(self.options_of(taken.grantee, owner));
        if lost.is_none() || taken.grantee == PUBLIC {
            return Ok(());
        }
        self.revoke_dependents(taken, lost, owner)
    }

    fn revoke_dependents(
        &mut self,
        taken: &Revocation,
        lost: Rights,
        owner: Oid,
    ) -> Result<(), SqlError> {
        let hangs = |item: &&AclItem| item.grantor == taken.grantee && item.rights.meets(lost);
        let Some(next) = self.0.iter().find(hangs).cloned() else { return Ok(()) };
        if !taken.cascade {
            let text = "dependent privileges exist";
            return Err(SqlError::new(code::DEPENDENT_OBJECTS, text));
        }
        let dependent = Revocation {
            grantee: next.grantee,
            grantor: next.grantor,
            rights: lost,
            options_only: false,
            cascade: true,
        };
        self.revoke(&dependent, owner)?;
        self.revoke_dependents(taken, lost, owner)
    }

    fn options_of(&self, grantee: Oid, owner: Oid) -> Rights {
        if grantee == owner {
            // An owner can always grant again.
            return Rights(u16::MAX);
        }
        self.grantable(|role| role == grantee)
    }

    /// Hands every entry of one owner over to another.
    pub(crate) fn change_owner(&mut self, from: Oid, to: Oid) {
        let items = std::mem::take(&mut self.0);
        for mut item in items {
            for role in [&mut item.grantee, &mut item.grantor] {
                if *role == from {
                    *role = to;
                }
            }
            self.add(item.grantee, item.grantor, item.rights, item.options);
        }
    }

    pub(crate) fn mentions(&self, role: Oid) -> bool {
        self.0.iter().any(|item| item.grantee == role || item.grantor == role)
    }
}

/// What to take from whom.
#[derive(Debug, Clone)]
pub(crate) struct Revocation {
    pub(crate) grantee: Oid,
    pub(crate) grantor: Oid,
    pub(crate) rights: Rights,
    pub(crate) options_only: bool,
    pub(crate) cascade: bool,
}
