//! How much memory the rows may take that were read or written lately, where nobody says how much.

use std::fs;
use std::path::Path;

/// Of the memory that this process may use, one part in so many.
const PART: u64 = 8;
const BYTES_MIN: u64 = 64 << 20;
const BYTES_MAX: u64 = 4 << 30;

/// An eighth of the memory that this process may use, by the machine and by its control group; at least 64 MiB, at most 4 GiB, and 64 MiB where that cannot be told. It is a bound:
/// memory is taken as rows come.
pub fn row_cache_bytes() -> u64 {
    let read = |path: &Path| fs::read_to_string(path).ok();
    let of_machine = read(Path::new("/proc/meminfo")).and_then(|text| of_machine(&text));
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    part(of_machine.into_iter().chain(of_groups(&groups, read)).min())
}

fn part(memory: Option<u64>) -> u64 {
    memory.map_or(BYTES_MIN, |memory| (memory / PART).clamp(BYTES_MIN, BYTES_MAX))
}

fn of_machine(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The least that a control group of this process allows, or one of those around it.
fn of_groups(groups: &str, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let limits = groups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let (root, file) = match controllers.split(',').any(|controller| controller == "memory") {
            true => (Path::new("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
            false => (Path::new("/sys/fs/cgroup"), "memory.max"),
        };
        let own = root.join(path.trim_start_matches('/'));
        let around: Vec<_> = own.ancestors().take_while(|group| group.starts_with(root)).map(|group| group.join(file)).collect();
        // A group that is seen from inside of a container is named by what lies outside of it; the root is its own then.
        around.into_iter().filter_map(|file| read(&file)?.trim().parse::<u64>().ok()).collect::<Vec<_>>()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_that_machine_and_groups_allow_counts() {
        assert_eq!(of_machine("MemFree: 1 kB\nMemTotal:       24625048 kB\nSwapTotal: 0 kB\n"), Some(24_625_048 << 10));
        assert_eq!(of_machine("MemTotal: much\n"), None);
        let files = |files: &'static [(&str, &str)]| {
            move |path: &Path| files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned())
        };
        let own = "0::/system.slice/gristmill.service\n";
        let nested = files(&[
            ("/sys/fs/cgroup/system.slice/gristmill.service/memory.max", "max\n"),
            ("/sys/fs/cgroup/system.slice/memory.max", "2147483648\n"),
            ("/sys/fs/cgroup/memory.max", "4294967296\n"),
        ]);
        assert_eq!(of_groups(own, nested), Some(2 << 30), "of those around it, the least");
        assert_eq!(
            of_groups("0::/../..\n", files(&[("/sys/fs/cgroup/memory.max", "1073741824\n")])),
            Some(1 << 30),
            "inside of a container"
        );
        let old = files(&[("/sys/fs/cgroup/memory/docker/a/memory.limit_in_bytes", "536870912\n")]);
        assert_eq!(of_groups("4:cpu,cpuacct:/docker/a\n3:memory:/docker/a\n", old), Some(512 << 20));
        assert_eq!(of_groups("", files(&[])), None);
    }

    #[test]
    fn an_eighth_within_its_bounds() {
        assert_eq!(part(None), 64 << 20);
        assert_eq!(part(Some(256 << 20)), 64 << 20, "no less than ever");
        assert_eq!(part(Some(4 << 30)), 512 << 20);
        assert_eq!(part(Some(256 << 30)), 4 << 30);
        assert!((BYTES_MIN..=BYTES_MAX).contains(&row_cache_bytes()));
    }
}
