//! Reading the kernel's process file system: small text files of numbers, none of which is trusted to be whole.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Clock ticks a second in `/proc`: fixed by Linux's interface to user space.
pub(crate) const TICKS_PER_SECOND: f64 = 100.0;
/// The longest file that is read; `/proc/stat` of a large machine has some hundred kilobytes.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The text of a file, at most some megabytes of it; what is not UTF-8 is replaced.
pub(crate) fn read(path: &Path) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8(bytes).unwrap_or_else(|err| String::from_utf8_lossy(err.as_bytes()).into_owned()))
}

/// One process as `/proc/<pid>/stat` tells it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ProcessStat {
    pub(crate) comm: String,
    pub(crate) state: char,
    pub(crate) user_ticks: u64,
    pub(crate) system_ticks: u64,
    pub(crate) threads: u64,
    /// Clock ticks from boot to the process's start: with the id, what tells it from a later process.
    pub(crate) start_ticks: u64,
}

impl ProcessStat {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        // The command is in brackets and may hold anything, brackets and line breaks too.
        let (before, after) = text.rsplit_once(')')?;
        let comm = before.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = after.split_ascii_whitespace().collect();
        let number = |place: usize| fields.get(place)?.parse::<u64>().ok();
        Some(Self {
            comm,
            state: fields.first()?.chars().next()?,
            user_ticks: number(11)?,
            system_ticks: number(12)?,
            threads: number(17)?,
            start_ticks: number(19)?,
        })
    }
}

/// Values of `Name:   123 kB` lines, in bytes where a unit says so.
pub(crate) fn keyed_values(text: &str) -> impl Iterator<Item = (&str, f64)> {
    text.lines().filter_map(|line| {
        let (name, rest) = line.split_once(':')?;
        let mut words = rest.split_ascii_whitespace();
        let value: u64 = words.next()?.parse().ok()?;
        let scale = match words.next() {
            None => 1.0,
            Some("kB") => 1024.0,
            Some(_) => return None,
        };
        Some((name.trim(), value as f64 * scale))
    })
}

/// Seconds since 1970 at which the machine started.
pub(crate) fn boot_time(stat: &str) -> Option<f64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse::<u64>().ok().map(|secs| secs as f64)
}

/// Ticks per mode of the CPUs: `("0", [user, nice, system, idle, iowait, irq, softirq, steal, …])`.
pub(crate) fn cpu_ticks(stat: &str) -> impl Iterator<Item = (&str, Vec<u64>)> {
    stat.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let cpu = words.next()?.strip_prefix("cpu").filter(|cpu| !cpu.is_empty() && cpu.bytes().all(|byte| byte.is_ascii_digit()))?;
        let ticks: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
        (ticks.len() >= 4).then_some((cpu, ticks))
    })
}

/// Stalled microseconds of a pressure file: `("some", 123)`, `("full", 45)`.
pub(crate) fn pressure(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let share = words.next()?;
        let total = words.find_map(|word| word.strip_prefix("total="))?.parse().ok()?;
        Some((share, total))
    })
}

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// `major:minor` of the device that files on it have.
    pub(crate) device_number: String,
    pub(crate) mount_point: String,
    pub(crate) fs_type: String,
    pub(crate) device: String,
    pub(crate) is_read_only: bool,
}

/// The mounts of `/proc/<pid>/mountinfo`.
pub(crate) fn mounts(mountinfo: &str) -> impl Iterator<Item = Mount> {
    mountinfo.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let before: Vec<&str> = before.split(' ').collect();
        let mut after = after.split(' ');
        Some(Mount {
            device_number: (*before.get(2)?).to_owned(),
            mount_point: unescape(before.get(4)?),
            fs_type: after.next()?.to_owned(),
            device: unescape(after.next()?),
            is_read_only: before.get(5)?.split(',').any(|option| option == "ro"),
        })
    })
}

/// Blanks, tabs, line breaks and backslashes in mount tables are written as octal numbers.
fn unescape(word: &str) -> String {
    let mut out = Vec::with_capacity(word.len());
    let bytes = word.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        let octal = bytes.get(i + 1..i + 4).filter(|digits| bytes[i] == b'\\' && digits.iter().all(|digit| (b'0'..=b'7').contains(digit)));
        let code = octal.and_then(|digits| u8::try_from(digits.iter().fold(0u32, |sum, digit| sum * 8 + u32::from(digit - b'0'))).ok());
        if let Some(code) = code {
            out.push(code);
            i += 4;
        } else {
            out.push(bytes[i]);
            i += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The soft limit of open files in `/proc/<pid>/limits`; infinity when there is none.
pub(crate) fn open_files_limit(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(f64::INFINITY),
        number => number.parse::<u64>().ok().map(|number| number as f64),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STAT: &str = "4242 (a) R (b\n) S 1 4242 4242 0 -1 4194560 900 0 7 0 250 150 0 0 20 0 5 0 123456 104857600 2560 184 1 1 0 0 0";

    #[test]
    fn a_command_may_hold_brackets() {
        let stat = ProcessStat::parse(STAT).unwrap();
        assert_eq!((stat.comm.as_str(), stat.state), ("a) R (b\n", 'S'));
        assert_eq!((stat.user_ticks, stat.system_ticks, stat.threads, stat.start_ticks), (250, 150, 5, 123_456));
    }

    #[test]
    fn mounts_are_unescaped() {
        let text = "36 35 98:0 /sub /mnt/a\\040b rw,noatime shared:1 master:2 - ext3 /dev/r\\134x rw,errors=continue\n\
                    37 35 0:5 / /x ro - tmpfs tmpfs rw\nbroken\n";
        let found: Vec<Mount> = mounts(text).collect();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].mount_point.as_str(), found[0].device.as_str(), found[0].fs_type.as_str()), ("/mnt/a b", "/dev/r\\x", "ext3"));
        assert!(!found[0].is_read_only && found[1].is_read_only);
    }

    #[test]
    fn reads_numbers_with_units() {
        let text = "MemTotal:       16 kB\nHugePages_Total:    3\nActive(anon):  1 kB\nodd: x\nother: 5 MB\n";
        let found: Vec<(&str, f64)> = keyed_values(text).collect();
        assert_eq!(found, [("MemTotal", 16_384.0), ("HugePages_Total", 3.0), ("Active(anon)", 1_024.0)]);
    }

    #[test]
    fn reads_cpus_pressure_boot_time_and_limits() {
        let stat = "cpu  9 9 9 9\ncpu0 1 2 3 4 5 6 7 8 9 10\ncpu12 1 2\ncpux 1 2 3 4\nbtime 1700000000\n";
        assert_eq!(cpu_ticks(stat).collect::<Vec<_>>(), [("0", vec![1, 2, 3, 4, 5, 6, 7, 8, 9, 10])]);
        assert_eq!(boot_time(stat), Some(1_700_000_000.0));
        let text = "some avg10=0.00 avg60=0.12 avg300=0.00 total=1234567\nfull avg10=0.00 total=89\n";
        assert_eq!(pressure(text).collect::<Vec<_>>(), [("some", 1_234_567), ("full", 89)]);
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files\n";
        assert_eq!(open_files_limit(limits), Some(1024.0));
        assert_eq!(open_files_limit("Max open files   unlimited  unlimited files"), Some(f64::INFINITY));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Damaged files are read without a panic, and give nothing or numbers.
        #[test]
        fn damaged_files_do_no_harm(at in 0usize..400, replacement in ".{0,6}", cut in 0usize..400) {
            let info = "36 35 98:0 /sub /mnt/a\\040b rw,noatime shared:1 - ext3 /dev/r\\134x rw\n";
            let stat = "cpu0 1 2 3 4 5 6 7 8 9 10\nbtime 1700000000\nMemTotal: 16 kB\nsome avg10=0.00 total=12\nMax open files 10 20 files\n";
            for text in [STAT, info, stat] {
                let at = text.floor_char_boundary(at % text.len());
                let mut damaged = text.to_owned();
                damaged.insert_str(at, &replacement);
                damaged.truncate(damaged.floor_char_boundary(cut));
                let _ = ProcessStat::parse(&damaged);
                let _ = mounts(&damaged).count() + keyed_values(&damaged).count() + cpu_ticks(&damaged).count() + pressure(&damaged).count();
                let _ = (boot_time(&damaged), open_files_limit(&damaged));
            }
        }
    }
}
