//! Names of views and their versions. Rows, states and windows of two versions have nothing to do with each other: each stands under a name of its own.

use super::is_name;

/// A view's name as it is written: `orders` is the version that is current, `orders@v2` the second one, and `orders@v1` the first, which is stored as
/// `orders`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViewName<'n> {
    /// The name without a version.
    pub base: &'n str,
    /// The version, if it is written.
    pub version: Option<u32>,
}

impl<'n> ViewName<'n> {
    /// Takes a name apart; `None` for what cannot name a view.
    pub fn parse(name: &'n str) -> Option<ViewName<'n>> {
        let Some((base, version)) = name.split_once('@') else {
            return is_name(name).then_some(ViewName { base: name, version: None });
        };
        let number = version.strip_prefix('v')?.parse().ok()?;
        let is_canonical = number > 0 && version.len() == format!("v{number}").len();
        (is_name(base) && is_canonical).then_some(ViewName { base, version: Some(number) })
    }

    /// The name without a version, of any text.
    pub fn base_of(name: &str) -> &str {
        name.split_once('@').map_or(name, |(base, _)| base)
    }

    /// The name under which this version is stored, where that is told by the name alone: not for the current one.
    pub fn stored(base: &str, version: u32) -> String {
        if version == 1 { base.to_owned() } else { format!("{base}@v{version}") }
    }

    /// The name that means just the view that is stored under this one, whichever version is current.
    pub fn exact(stored: &str) -> String {
        if stored.contains('@') { stored.to_owned() } else { format!("{stored}@v1") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_way_to_write_a_version() {
        let named = |base, version| Some(ViewName { base, version });
        assert_eq!(ViewName::parse("orders"), named("orders", None));
        assert_eq!(ViewName::parse("orders@v1"), named("orders", Some(1)));
        assert_eq!(ViewName::parse("orders@v12"), named("orders", Some(12)));
        for wrong in
            ["", "@v2", "orders@", "orders@2", "orders@v0", "orders@v02", "orders@v+2", "orders@v2@v3", "or ders", "orders@v99999999999"]
        {
            assert_eq!(ViewName::parse(wrong), None, "{wrong}");
        }
        assert_eq!((ViewName::stored("orders", 1), ViewName::stored("orders", 2)), ("orders".into(), "orders@v2".into()));
        assert_eq!((ViewName::exact("orders"), ViewName::exact("orders@v2")), ("orders@v1".into(), "orders@v2".into()));
    }
}
