use super::*;

const MIB: u64 = 1024 * 1024;

fn read_all(spool: &Spool) -> Vec<(u64, Vec<u8>)> {
    let mut at = spool.cursor();
    let mut all = Vec::new();
    while let (Some(record), _) = spool.read(at).unwrap() {
        at = record.next;
        all.push((record.samples, record.payload));
    }
    all
}

fn last_file(dir: &Path) -> PathBuf {
    file_path(dir, *list(dir).unwrap().last().unwrap())
}

#[test]
fn records_come_back_in_order_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), MIB, MIB).unwrap();
    for i in 0..10u8 {
        assert_eq!(spool.append(&[i; 100], 5, i64::from(i)).unwrap(), 0);
    }
    let first = spool.read(spool.cursor()).unwrap().0.unwrap();
    spool.done(&[(first.next, first.samples)]);
    assert_eq!(spool.level().samples, 45);
    drop(spool);
    let spool = Spool::open(dir.path(), MIB, MIB).unwrap();
    assert_eq!(spool.level().samples, 45);
    spool.append(&[10; 100], 5, 10).unwrap();
    let all = read_all(&spool);
    assert_eq!(all.iter().map(|(_, payload)| payload[0]).collect::<Vec<_>>(), (1..=10).collect::<Vec<u8>>());
}

#[test]
fn files_that_are_sent_leave() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), 4 * MIB, 64 * 1024).unwrap();
    for i in 0..100u32 {
        spool.append(&i.to_le_bytes().repeat(2_500), 1, 0).unwrap();
    }
    assert!(spool.level().files > 10);
    let mut at = spool.cursor();
    while let (Some(record), lost) = spool.read(at).unwrap() {
        assert_eq!(lost, 0);
        at = record.next;
        spool.done(&[(record.next, record.samples)]);
    }
    assert_eq!(spool.level().samples, 0);
    assert!(spool.level().files <= 1 && list(dir.path()).unwrap().len() <= 1);
    spool.append(b"after", 1, 0).unwrap();
    assert_eq!(read_all(&spool), [(1, b"after".to_vec())]);
}

#[test]
fn the_oldest_samples_make_room_and_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), 512 * 1024, 128 * 1024).unwrap();
    let mut dropped = 0;
    for i in 0..200u32 {
        dropped += spool.append(&i.to_le_bytes().repeat(2_500), 7, 0).unwrap();
    }
    let kept = read_all(&spool);
    assert!(dropped > 0 && spool.level().bytes <= 512 * 1024 + 20_000);
    assert_eq!(dropped + kept.iter().map(|record| record.0).sum::<u64>(), 1_400);
    assert_eq!(kept.last().unwrap().1[..4], 199u32.to_le_bytes());
    assert_eq!(spool.level().samples, kept.iter().map(|record| record.0).sum::<u64>());
}

#[test]
fn an_unfinished_end_is_cut_and_damage_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), MIB, MIB).unwrap();
    for _ in 0..3 {
        spool.append(&[7; 50], 2, 0).unwrap();
    }
    drop(spool);
    let path = last_file(dir.path());
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let spool = Spool::open(dir.path(), MIB, MIB).unwrap();
    assert_eq!((spool.level().samples, read_all(&spool).len()), (4, 2));
    spool.append(&[8; 50], 2, 0).unwrap();
    assert_eq!(read_all(&spool).len(), 3);
    drop(spool);
    // A flipped bit in the second record.
    let mut bytes = bytes;
    bytes[FILE_HEADER as usize + 2 * RECORD_HEADER + 60] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let spool = Spool::open(dir.path(), MIB, MIB).unwrap();
    let first = spool.read(spool.cursor()).unwrap().0.unwrap();
    let (next, lost) = spool.read(first.next).unwrap();
    assert_eq!((next.unwrap().payload, lost), (vec![8; 50], 6), "what is behind the damage counts as lost");
}

#[test]
fn a_newer_format_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(file_path(dir.path(), 1), b"PMSPOOL\x02rest").unwrap();
    assert!(matches!(Spool::open(dir.path(), MIB, MIB), Err(RemoteError::NewerSpool { found: 2, .. })));
    assert!(file_path(dir.path(), 1).exists());
}

#[test]
fn a_spool_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let _spool = Spool::open(dir.path(), MIB, MIB).unwrap();
    assert!(Spool::open(dir.path(), MIB, MIB).is_err());
}

/// Written by the first version of the format; every version must keep reading it.
#[test]
fn the_first_format_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let bytes: &[u8] = b"PMSPOOL\x01\x03\x00\x00\x00\x02\x00\x00\x00\xe8\x03\x00\x00\x00\x00\x00\x00";
    let payload = b"abc";
    let mut file = bytes.to_vec();
    file.extend_from_slice(&FIRST_FORMAT_HASH.to_le_bytes());
    file.extend_from_slice(payload);
    std::fs::write(file_path(dir.path(), 5), &file).unwrap();
    let spool = Spool::open(dir.path(), MIB, MIB).unwrap();
    let record = spool.read(spool.cursor()).unwrap().0.unwrap();
    assert_eq!((record.samples, record.newest_ms, record.payload), (2, 1_000, payload.to_vec()));
}

const FIRST_FORMAT_HASH: u64 = 0x9387_ebaf_0f87_da5a;
