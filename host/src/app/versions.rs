//! Versions: every component that was ever accepted under a name, how it was bound, who put it when, and which of them is in force.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::binding_options::BindingOptions;
use crate::model::{Digest, Spec, Timestamp};
use crate::window::{Forgets, Lasting, Plan};

/// Where a version came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Origin {
    /// The configuration: it will come again at the next start.
    Declared,
    /// The watched folder: likewise.
    Folder,
    /// A request to the running host.
    Pushed,
}

impl Origin {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Origin::Declared => "declared",
            Origin::Folder => "folder",
            Origin::Pushed => "pushed",
        }
    }
}

/// A component and a way of binding it, accepted under a name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Version {
    /// From 1 within its name; none is used twice.
    pub(super) number: u32,
    /// The component; its bytes are in a file of that name.
    pub(super) digest: Digest,
    /// How it is bound.
    pub(super) options: BindingOptions,
    /// The stream that it reads, if it reads one.
    pub(super) stream: Option<String>,
    pub(super) origin: Origin,
    /// Name of the token, or what stands for one.
    pub(super) put_by: String,
    pub(super) put_at: Timestamp,
    /// What the component says about itself.
    pub(super) spec: Spec,
}

impl Version {
    /// How long its entities last.
    fn lasting(&self) -> Option<Lasting> {
        Lasting::new(self.options.expire_secs(), Some(&Plan::new(&self.spec.outputs, &self.options.kept(&self.spec))))
    }
}

/// What the configuration or the watched folder has under a name: options where it says any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Declaration {
    pub(super) digest: Digest,
    pub(super) options: Option<BindingOptions>,
}

/// Hosts of which it is remembered what they declare under one name; the longest known go first.
const DECLARERS_MAX: usize = 256;

/// A host, and what it declared under a name when it started last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Declarer {
    host: String,
    declaration: Declaration,
}

/// The versions of one name, the oldest first.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct History {
    pub(super) versions: Vec<Version>,
    /// The greatest number ever given.
    last: u32,
    /// The one in force; none after the transform was removed.
    pub(super) active: Option<u32>,
    /// Those that were in force before it and were not rolled back, the newest last.
    before: Vec<u32>,
    /// What put the one in force into force.
    by: Option<Origin>,
    /// What was declared when that happened. When it is something else at the next start, somebody has changed it since, and theirs counts.
    pub(super) declared: Option<Declaration>,
    /// The hosts that declare the name.
    #[serde(default)]
    declarers: Vec<Declarer>,
    /// Entities of it that may be forgotten.
    #[serde(flatten)]
    pub(super) forgets: Forgets,
}

impl History {
    /// Whether a host declares what it did when it started last, or for the first time what another one has declared. Then what was put over it counts.
    pub(super) fn is_known(&self, declaration: &Declaration, host: &str) -> bool {
        let own = self.declarers.iter().find(|declarer| declarer.host == host).map(|declarer| &declarer.declaration);
        own.or(self.declared.as_ref()) == Some(declaration)
    }

    /// What may be forgotten of it once a version is in force whose entities last for so long, and that keeps more of them than rows or not.
    pub(super) fn forgets(&self, lasting: Option<Lasting>, keeps: bool, now: Timestamp) -> Forgets {
        // After a removal nothing is in force, and what that one has kept goes on to expire.
        let Some(before) = self.active().or_else(|| self.back()) else { return self.forgets };
        let forgets = self.forgets.replaced(before.lasting(), before.options.ahead_max_secs, lasting, now);
        let kept = !before.options.kept(&before.spec).is_nothing();
        if keeps && !kept { forgets.keeping(now) } else { forgets }
    }

    fn add_declarer(&mut self, host: &str, declaration: &Declaration) {
        if self.declarers.iter().any(|declarer| declarer.host == host && declarer.declaration == *declaration) {
            return;
        }
        self.declarers.retain(|declarer| declarer.host != host);
        self.declarers.push(Declarer { host: host.to_owned(), declaration: declaration.clone() });
        self.declarers.drain(..self.declarers.len().saturating_sub(DECLARERS_MAX));
    }

    /// The version of this number.
    pub(super) fn version(&self, number: u32) -> Option<&Version> {
        self.versions.iter().find(|version| version.number == number)
    }

    /// The version in force.
    pub(super) fn active(&self) -> Option<&Version> {
        self.version(self.active?)
    }

    /// Where a roll back goes.
    pub(super) fn back(&self) -> Option<&Version> {
        self.before.iter().rev().find_map(|number| self.version(*number))
    }

    /// The number of this component bound like this, if it was accepted before.
    fn known(&self, digest: Digest, options: &BindingOptions) -> Option<u32> {
        self.versions.iter().find(|version| version.digest == digest && version.options == *options).map(|version| version.number)
    }

    /// Makes a version the one in force.
    fn activate(&mut self, number: u32, by: Origin) {
        if let Some(old) = self.active.replace(number).filter(|old| *old != number) {
            self.before.push(old);
        }
        self.by = Some(by);
    }

    /// The oldest go, but neither the one in force nor the one that a roll back goes to, until there are no more than this.
    fn bound(&mut self, versions_max: usize) {
        let kept = [self.active, self.back().map(|version| version.number)];
        while self.versions.len() > versions_max
            && let Some(oldest) = self.versions.iter().position(|version| !kept.contains(&Some(version.number)))
        {
            self.versions.remove(oldest);
        }
        let History { versions, before, .. } = self;
        before.retain(|number| versions.iter().any(|version| version.number == *number));
        // A way back through the same few versions again and again has an end.
        before.drain(..before.len().saturating_sub(versions_max));
    }
}

/// A change of what is in force under a name, for the book.
pub(super) enum Change {
    /// A component comes, maybe one that was there before.
    Accepted(Box<Version>),
    /// A version that the book has comes back.
    Activated(u32),
    /// The one before comes back, and the one in force is not what a later roll back goes to.
    RolledBack(u32),
    /// What was in force at the last stop comes back.
    Resumed(u32),
}

/// A declaration and the host that declares it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Declared<'d> {
    pub(super) declaration: &'d Declaration,
    pub(super) host: &'d str,
}

/// All versions, by name.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Versions {
    pub(super) names: BTreeMap<String, History>,
}

impl Versions {
    /// What was ever accepted under a name.
    pub(super) fn history(&self, name: &str) -> Option<&History> {
        self.names.get(name)
    }

    /// The names with a version in force.
    pub(super) fn active(&self) -> impl Iterator<Item = (&str, &Version)> {
        self.names.iter().filter_map(|(name, history)| Some((name.as_str(), history.active()?)))
    }

    /// The names of which others have something else.
    pub(super) fn difference(&self, others: &Versions) -> BTreeSet<String> {
        let is_other = |name: &&String| self.names.get(*name) != others.names.get(*name);
        self.names.keys().chain(others.names.keys()).filter(is_other).cloned().collect()
    }

    /// The components that are named.
    pub(super) fn components(&self) -> BTreeSet<Digest> {
        self.names.values().flat_map(|history| &history.versions).map(|version| version.digest).collect()
    }

    /// Whether what is in force under a name came with a declaration. When that is gone, so is it.
    pub(super) fn follows_declaration(&self, name: &str) -> bool {
        self.names.get(name).is_some_and(|history| matches!(history.by, Some(Origin::Declared | Origin::Folder)))
    }

    /// Makes a change, after which so much may be forgotten; the number of the version that is in force now.
    pub(super) fn record(
        &mut self,
        name: &str,
        change: Change,
        forgets: Forgets,
        declared: Option<Declared<'_>>,
        versions_max: usize,
    ) -> u32 {
        let history = self.names.entry(name.to_owned()).or_default();
        history.forgets = forgets;
        if let Some(Declared { declaration, host }) = declared {
            history.add_declarer(host, declaration);
            history.declared = Some(declaration.clone());
        }
        let number = match change {
            Change::Resumed(number) => number,
            Change::Activated(number) => {
                history.activate(number, Origin::Pushed);
                number
            }
            Change::RolledBack(number) => {
                while history.before.pop().is_some_and(|passed| passed != number) {}
                history.active = Some(number);
                history.by = Some(Origin::Pushed);
                number
            }
            Change::Accepted(version) => {
                let by = version.origin;
                let number = history.known(version.digest, &version.options).unwrap_or(history.last.saturating_add(1));
                if number > history.last {
                    history.last = number;
                    history.versions.push(Version { number, ..*version });
                }
                history.activate(number, by);
                number
            }
        };
        history.bound(versions_max);
        number
    }

    /// What is in force under a name is declared too.
    pub(super) fn declare(&mut self, name: &str, declared: Declared<'_>, by: Origin) {
        let history = self.names.entry(name.to_owned()).or_default();
        history.add_declarer(declared.host, declared.declaration);
        history.declared = Some(declared.declaration.clone());
        history.by = Some(by);
    }

    /// A host declares a name as it, or another one, did before: what is in force counts.
    pub(super) fn declare_again(&mut self, name: &str, declared: Declared<'_>) {
        if let Some(history) = self.names.get_mut(name) {
            history.add_declarer(declared.host, declared.declaration);
        }
    }

    /// A host does not declare a name any more. What came with a declaration goes with the last one. Says whether it has.
    pub(super) fn undeclare(&mut self, name: &str, host: &str, versions_max: usize) -> bool {
        let Some(history) = self.names.get_mut(name) else { return true };
        history.declarers.retain(|declarer| declarer.host != host);
        history.declarers.is_empty() && self.deactivate(name, versions_max)
    }

    /// Leaves a name with nothing in force. Its versions stay, and a roll back goes to the one that was. Says whether there was one.
    pub(super) fn deactivate(&mut self, name: &str, versions_max: usize) -> bool {
        let Some(history) = self.names.get_mut(name) else { return false };
        let Some(number) = history.active.take() else { return false };
        history.before.push(number);
        history.by = None;
        history.declared = None;
        history.declarers.clear();
        history.bound(versions_max);
        true
    }
}

/// SHA-256 of a component.
pub(super) fn digest(component: &[u8]) -> Digest {
    Digest(Sha256::digest(component).into())
}
