use std::io::Write as _;

use super::*;

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut out = flate2::GzBuilder::new().filename("a").comment("b").extra("cd").write(Vec::new(), flate2::Compression::new(6));
    out.write_all(text).unwrap();
    out.finish().unwrap()
}

fn decoded(encoding: &'static str, bytes: &[u8], size: usize) -> (u64, Result<(), Undecodable>) {
    let name = HeaderValue::from_static(encoding);
    let mut decoder = Decoder::of(std::iter::once(&name)).unwrap().unwrap();
    let mut count = 0;
    let pushed = bytes.chunks(size).try_for_each(|piece| decoder.push(piece, &mut |part| count += part.len() as u64));
    (count, pushed)
}

#[test]
fn members_that_follow_one_another_are_one_answer() {
    for length in [0, 1, PART_BYTES - 1, PART_BYTES, 8 * PART_BYTES, 1_000_000] {
        let one = gzip(&vec![b' '; length]);
        for size in [1, 7, 16 * 1024, usize::MAX] {
            assert_eq!(decoded("gzip", &one.repeat(3), size), (3 * length as u64, Ok(())), "{length} in pieces of {size}");
        }
    }
}

#[test]
fn long_answers_are_decoded_whole_in_any_pieces() {
    let text: Vec<u8> = (0..200_000_u32).flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 28).to_string().into_bytes()).collect();
    let deflate = |with_header: bool| {
        let mut deflate = flate2::Compress::new(flate2::Compression::new(6), with_header);
        let mut out = Vec::with_capacity(text.len());
        deflate.compress_vec(&text, &mut out, flate2::FlushCompress::Finish).unwrap();
        out
    };
    for (encoding, bytes) in [("gzip", gzip(&text)), ("deflate", deflate(true)), ("deflate", deflate(false))] {
        for size in [1, 50, 4096, usize::MAX] {
            assert_eq!(decoded(encoding, &bytes, size), (text.len() as u64, Ok(())), "{encoding} in pieces of {size}");
        }
    }
}
