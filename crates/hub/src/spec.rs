//! The name of a repository: `org/name`, with `@revision` if it isn't `main`.

use crate::error::{Error, Result};
use std::fmt;

/// A repository of models on the hub, at a branch, tag or commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepoSpec {
    /// Owner.
    pub org: String,
    /// Name within the owner's repositories.
    pub name: String,
    /// Branch, tag, commit, or `refs/pr/N`.
    pub revision: String,
}

impl RepoSpec {
    /// Parses `org/name` or `org/name@revision`.
    ///
    /// # Errors
    /// [`Error::BadSpec`] for anything else, so that no part of a name can leave the cache folder.
    pub fn parse(spec: &str) -> Result<Self> {
        let bad = |why| Error::BadSpec { spec: spec.to_owned(), why };
        let (id, revision) = spec.split_once('@').unwrap_or((spec, "main"));
        let Some((org, name)) = id.split_once('/') else { return Err(bad("there is no `/`")) };
        if !is_plain(org) || !is_plain(name) {
            return Err(bad(
                "owner and name are letters, digits, `-`, `_` and `.`, and begin with a letter or digit",
            ));
        }
        // The cache spells `org/name` as `org--name`.
        if org.contains("--") || name.contains("--") || org.contains("..") || name.contains("..") {
            return Err(bad("owner and name hold no `--` or `..`"));
        }
        if revision.is_empty() || !revision.split('/').all(is_plain) || revision.contains("..") {
            return Err(bad("the revision is no branch, tag or commit"));
        }
        Ok(Self { org: org.to_owned(), name: name.to_owned(), revision: revision.to_owned() })
    }

    /// `org/name`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.org, self.name)
    }

    /// Whether the revision is a full commit hash, whose content never changes.
    pub fn is_commit(&self) -> bool {
        is_commit(&self.revision)
    }
}

impl fmt::Display for RepoSpec {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}/{}@{}", self.org, self.name, self.revision)
    }
}

/// Forty hexadecimal digits.
pub(crate) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_plain(part: &str) -> bool {
    part.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_with_and_without_revision() {
        let spec = RepoSpec::parse("org/name-1.5_b").unwrap();
        assert_eq!((spec.id().as_str(), spec.revision.as_str()), ("org/name-1.5_b", "main"));
        assert_eq!(RepoSpec::parse("a/b@refs/pr/3").unwrap().revision, "refs/pr/3");
        assert_eq!(RepoSpec::parse("a/b@v1").unwrap().to_string(), "a/b@v1");
        assert!(RepoSpec::parse("a/b@0123456789abcdef0123456789ABCDEF01234567").unwrap().is_commit());
    }

    #[test]
    fn everything_else_is_refused() {
        for spec in [
            "",
            "name",
            "/a/b",
            "./a",
            "../b",
            "a/../b",
            "a/b/c",
            "a/",
            "a/b@",
            "a/b@..",
            "a/b@x/../../y",
            "a/b@/x",
            "a\\b/c",
            "a/b c",
            "a/b@-x",
            "a--b/c",
            "~/a",
            "a/.b",
        ] {
            assert!(matches!(RepoSpec::parse(spec), Err(Error::BadSpec { .. })), "{spec}");
        }
    }
}
