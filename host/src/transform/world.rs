//! The worlds that core modules carry with them, looked at before the encoder wraps a module: it walks their packages by calling itself, and would
//! not come back from packages that depend on each other in a circle.

use std::collections::{BTreeMap, BTreeSet};

use wit_parser::PackageName;
use wit_parser::decoding::decode_world;

use super::Error;

/// Packages that the worlds of one module name, at most.
const PACKAGES_MAX: usize = 64;

/// What each package depends on, by the worlds looked at so far.
#[derive(Default)]
pub(super) struct Packages(BTreeMap<PackageName, BTreeSet<PackageName>>);

impl Packages {
    /// Adds those of one world, as it stands in a custom section.
    pub(super) fn add(&mut self, world: &[u8]) -> Result<(), Error> {
        let (resolve, _) = decode_world(world).map_err(|error| Error::Refused(format!("its world cannot be read: {error:#}")))?;
        for (id, package) in resolve.packages.iter() {
            let needed = resolve.package_direct_deps(id).filter_map(|needed| Some(resolve.packages.get(needed)?.name.clone()));
            self.0.entry(package.name.clone()).or_default().extend(needed);
        }
        if self.0.len() > PACKAGES_MAX {
            return Err(Error::Refused(format!("its world names {} packages; {PACKAGES_MAX} are allowed", self.0.len())));
        }
        Ok(())
    }

    /// Refuses packages that depend on each other in a circle.
    pub(super) fn check(mut self) -> Result<(), Error> {
        while !self.0.is_empty() {
            let left: BTreeSet<PackageName> = self.0.keys().cloned().collect();
            // What depends on nothing that is left goes.
            self.0.retain(|_, needed| needed.iter().any(|needed| left.contains(needed)));
            if self.0.len() == left.len() {
                return Err(Error::Refused("the packages of its world depend on each other in a circle".into()));
            }
        }
        Ok(())
    }
}
