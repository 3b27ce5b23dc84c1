//! Floats: delta-of-delta times; values as scaled integers where they are short decimals, else XOR
//! (T. Pelkonen et al., "Gorilla: A Fast, Scalable, In-Memory Time Series Database", VLDB 2015).
//!
//! Most of what is measured are counts and short decimals. Those are kept as `integer / 10^scale`, whose second
//! differences are small; a value that is not exactly such a quotient makes the chunk change its encoding.

use crate::bits::{BitReader, BitWriter, fits, low, sign_extend};

/// The code of XOR chunks; smaller codes are scales.
pub(crate) const XOR: u8 = 15;
const SCALE_MAX: u8 = 6;
const POWERS: [f64; 7] = [1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6];
/// Second differences of integers up to 2^52 fit 56 bits.
const INTEGER_MAX: f64 = 4_503_599_627_370_496.0;

/// Bits of a second difference, by the number of leading ones of its class.
const VALUE_BITS: [u32; 7] = [0, 5, 9, 14, 20, 30, 56];
/// The bit that tells the sign, by class.
const SIGNS: [u64; 7] = [0, 1 << 4, 1 << 8, 1 << 13, 1 << 19, 1 << 29, 1 << 55];
const ESCAPE: u32 = 7;
/// Bits of a second difference of times in milliseconds, by class.
const TIME_BITS: [u32; 5] = [0, 6, 13, 20, 64];

/// One chunk being written.
#[derive(Debug, Clone)]
pub(crate) struct FloatWriter {
    bits: BitWriter,
    start: i64,
    last: i64,
    step: i64,
    /// XOR: the bits of the last value; else the last integer.
    value: u64,
    value_step: i64,
    count: u16,
    encoding: u8,
    leading: u8,
    trailing: u8,
    /// Whether the last value is one that scaled integers cannot say.
    escaped: bool,
}

/// The state of a reader behind some sample of a chunk, so that later samples are found without the earlier ones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    value: u64,
    /// XOR: the significant and the trailing bits of the last difference.
    value_step: i64,
    bit: u32,
    /// Milliseconds from the chunk's start, and from the sample before.
    time: u32,
    step: u32,
    /// Samples before this point; zero where there is no mark.
    pub(crate) count: u16,
    encoding: u8,
    /// Whether its chunk is closed.
    closed: bool,
}

impl Mark {
    pub(crate) const NONE: Self = Self { value: 0, value_step: 0, bit: 0, time: 0, step: 0, count: 0, encoding: 0, closed: false };

    /// Whether it leads into a chunk of floats, before `from`.
    pub(crate) fn leads(&self, closed: bool, encoding: u8, start: i64, from: i64) -> bool {
        self.count > 0 && self.closed == closed && self.encoding == encoding && start.saturating_add(i64::from(self.time)) < from
    }

    /// The same once its chunk is closed; the mark of a chunk that was closed before leads nowhere.
    pub(crate) fn close(self) -> Self {
        if self.closed { Self::NONE } else { Self { closed: true, ..self } }
    }

    pub(crate) fn byte(&self) -> usize {
        self.bit as usize / 8
    }
}

/// The integer that `value` is at a scale, if it is exactly one.
#[inline]
fn scaled(value: f64, scale: u8) -> Option<i64> {
    let power = POWERS[usize::from(scale)];
    let rounded = (value * power).round();
    let integer = rounded as i64;
    // Through the integer and back, because -0.0 is not the quotient of an integer.
    let exact = rounded.abs() <= INTEGER_MAX && (integer as f64 / power).to_bits() == value.to_bits();
    exact.then_some(integer)
}

fn scale_of(value: f64, from: u8) -> Option<u8> {
    (from..=SCALE_MAX).find(|scale| scaled(value, *scale).is_some())
}

impl FloatWriter {
    pub(crate) fn new(time: i64, value: f64) -> Self {
        let encoding = if value.is_nan() { 0 } else { scale_of(value, 0).unwrap_or(XOR) };
        let mut writer = Self {
            bits: BitWriter::default(),
            start: time,
            last: time,
            step: 0,
            value: 0,
            value_step: 0,
            count: 1,
            encoding,
            leading: u8::MAX,
            trailing: 0,
            escaped: false,
        };
        writer.put_value(value);
        writer
    }

    pub(crate) fn start(&self) -> i64 {
        self.start
    }

    pub(crate) fn last(&self) -> i64 {
        self.last
    }

    /// The latest value, where it is at hand.
    pub(crate) fn last_value(&self) -> Option<f64> {
        match self.encoding {
            XOR => Some(f64::from_bits(self.value)),
            scale if !self.escaped => Some(self.value as i64 as f64 / POWERS[usize::from(scale)]),
            _ => None,
        }
    }

    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    /// The state behind the last sample; none where it does not fit, which no chunk within its block can cause.
    pub(crate) fn mark(&self) -> Mark {
        let xor = if self.leading == u8::MAX {
            64
        } else {
            (64 - i64::from(self.leading) - i64::from(self.trailing)) | i64::from(self.trailing) << 8
        };
        let value_step = if self.encoding == XOR { xor } else { self.value_step };
        let fields = (u32::try_from(self.bits.len()), u32::try_from(self.last.wrapping_sub(self.start)), u32::try_from(self.step));
        let (Ok(bit), Ok(time), Ok(step)) = fields else { return Mark::NONE };
        Mark { value: self.value, value_step, bit, time, step, count: self.count, encoding: self.encoding, closed: false }
    }

    pub(crate) fn encoding(&self) -> u8 {
        self.encoding
    }

    pub(crate) fn bits(&self) -> &BitWriter {
        &self.bits
    }

    /// Appends a sample that is later than the last one.
    #[inline]
    pub(crate) fn push(&mut self, time: i64, value: f64) {
        if self.encoding != XOR && !value.is_nan() && scaled(value, self.encoding).is_none() {
            self.change_encoding(value);
        }
        self.put_time(time);
        self.put_value(value);
        self.count += 1;
    }

    #[inline]
    fn put_time(&mut self, time: i64) {
        let step = time.wrapping_sub(self.last);
        let change = step.wrapping_sub(self.step);
        (self.last, self.step) = (time, step);
        if change == 0 {
            self.bits.put(0, 1);
        } else if fits(change, 6) {
            self.bits.put(0b10 << 6 | change as u64 & low(6), 8);
        } else if fits(change, 13) {
            self.bits.put(0b110 << 13 | change as u64 & low(13), 16);
        } else if fits(change, 20) {
            self.bits.put(0b1110 << 20 | change as u64 & low(20), 24);
        } else {
            self.bits.put(0b1111, 4);
            self.bits.put(change as u64, 64);
        }
    }

    #[inline]
    fn put_value(&mut self, value: f64) {
        if self.encoding == XOR { self.put_xor(value) } else { self.put_integer(value) }
    }

    #[inline]
    fn put_integer(&mut self, value: f64) {
        let Some(integer) = (!value.is_nan()).then(|| scaled(value, self.encoding)).flatten() else {
            self.bits.put(low(ESCAPE), ESCAPE);
            self.bits.put(value.to_bits(), 64);
            self.escaped = true;
            return;
        };
        self.escaped = false;
        // Both are at most 2^52, so no step and no change of steps leaves 56 bits.
        let step = integer - self.value as i64;
        let change = step - self.value_step;
        (self.value, self.value_step) = (integer as u64, step);
        if change == 0 {
            self.bits.put(0, 1);
            return;
        }
        let mut class = 1;
        while class < 6 && !fits(change, VALUE_BITS[class as usize]) {
            class += 1;
        }
        let bits = VALUE_BITS[class as usize];
        let prefix = low(class) << 1;
        self.bits.put(prefix << bits | change as u64 & low(bits), class + 1 + bits);
    }

    #[inline]
    fn put_xor(&mut self, value: f64) {
        let bits = value.to_bits();
        let xor = bits ^ self.value;
        self.value = bits;
        if xor == 0 {
            self.bits.put(0, 1);
            return;
        }
        let (leading, trailing) = ((xor.leading_zeros() as u8).min(31), xor.trailing_zeros() as u8);
        if self.leading != u8::MAX && leading >= self.leading && trailing >= self.trailing {
            let count = 64 - u32::from(self.leading) - u32::from(self.trailing);
            self.bits.put(0b10, 2);
            self.bits.put(xor >> self.trailing, count);
            return;
        }
        (self.leading, self.trailing) = (leading, trailing);
        let count = 64 - u32::from(leading) - u32::from(trailing);
        self.bits.put(0b11 << 11 | u64::from(leading) << 6 | u64::from(count & 63), 13);
        self.bits.put(xor >> trailing, count);
    }

    /// Writes everything again in an encoding that can hold `value` too.
    #[cold]
    fn change_encoding(&mut self, value: f64) {
        let mut buffer = Vec::new();
        self.bits.copy_to(&mut buffer);
        let count = usize::from(self.count);
        let (mut times, mut values) = (vec![0; count], vec![0.0; count]);
        decode(self.encoding, self.start, &buffer, &mut times, &mut values);
        let all: Vec<(i64, f64)> = times.into_iter().zip(values).collect();
        let finer = (self.encoding + 1..=SCALE_MAX)
            .find(|scale| all.iter().map(|pair| pair.1).chain([value]).all(|value| value.is_nan() || scaled(value, *scale).is_some()));
        let mut again = Self::new(self.start, f64::NAN);
        again.bits = BitWriter::default();
        again.encoding = finer.unwrap_or(XOR);
        if let Some((_, first)) = all.first() {
            again.put_value(*first);
        }
        for (time, value) in all.iter().skip(1) {
            again.put_time(*time);
            again.put_value(*value);
            again.count += 1;
        }
        *self = again;
    }
}

/// Reads as many samples as the slices are long; `false` when the bytes are not a chunk of that many samples.
pub(crate) fn decode(encoding: u8, start: i64, bytes: &[u8], times: &mut [i64], values: &mut [f64]) -> bool {
    let state = State { reader: BitReader::new(bytes), time: start, step: 0, value: 0, value_step: 0, first: true };
    decode_with(encoding, State { value_step: if encoding == XOR { 64 } else { 0 }, ..state }, times, values)
}

/// The same from a mark on, of which `bytes` begin at its byte.
pub(crate) fn decode_from(mark: &Mark, start: i64, bytes: &[u8], times: &mut [i64], values: &mut [f64]) -> bool {
    let state = State {
        reader: BitReader::new_at(bytes, mark.bit as usize % 8),
        time: start.saturating_add(i64::from(mark.time)),
        step: i64::from(mark.step),
        value: mark.value,
        value_step: mark.value_step,
        first: false,
    };
    decode_with(mark.encoding, state, times, values)
}

/// Where a reader is.
struct State<'a> {
    reader: BitReader<'a>,
    time: i64,
    step: i64,
    value: u64,
    value_step: i64,
    /// The first sample of a chunk has its time in the chunk's head.
    first: bool,
}

fn decode_with(encoding: u8, state: State<'_>, times: &mut [i64], values: &mut [f64]) -> bool {
    match encoding {
        XOR => decode_xor(state, times, values),
        0 => decode_integers(state, |integer| integer as f64, times, values),
        scale if scale <= SCALE_MAX => {
            let power = POWERS[usize::from(scale)];
            decode_integers(state, |integer| integer as f64 / power, times, values)
        }
        _ => false,
    }
}

/// Reads by how much the step between two times changes; `word` is what the reader peeks, and not a zero.
#[inline]
fn time_change(reader: &mut BitReader<'_>, word: u64) -> i64 {
    let class = (word.leading_ones() as usize).min(4);
    if class < 4 {
        let bits = TIME_BITS[class];
        reader.skip(class as u32 + 1 + bits);
        sign_extend((word << (class + 1)) >> (64 - bits), bits)
    } else {
        reader.skip(4);
        reader.get_long(64) as i64
    }
}

#[inline(always)]
fn next_time(reader: &mut BitReader<'_>, word: u64, time: &mut i64, step: &mut i64) -> u64 {
    // A sample that comes as regularly as the one before costs one bit.
    let word = if word >> 63 == 0 {
        reader.skip(1);
        word << 1
    } else {
        *step = step.wrapping_add(time_change(reader, word));
        reader.peek()
    };
    *time = time.wrapping_add(*step);
    word
}

#[inline]
fn decode_integers(state: State<'_>, number: impl Fn(i64) -> f64, times: &mut [i64], values: &mut [f64]) -> bool {
    let State { mut reader, mut time, mut step, value, value_step: mut integer_step, first } = state;
    let mut integer = value as i64;
    for (i, (time_out, value_out)) in times.iter_mut().zip(values).enumerate() {
        let mut word = reader.peek();
        if i > 0 || !first {
            word = next_time(&mut reader, word, &mut time, &mut step);
        }
        *time_out = time;
        // At least 56 bits of the word are valid, more than any class but the last two needs.
        let class = word.leading_ones().min(ESCAPE);
        if class == ESCAPE {
            reader.skip(ESCAPE);
            *value_out = f64::from_bits(reader.get_long(64));
            continue;
        }
        // No branch on the class: which one comes next is as random as the data.
        let bits = VALUE_BITS[class as usize];
        let change = if class < 6 {
            reader.skip(class + 1 + bits);
            (word << (class + 1)) >> 1 >> (63 - bits)
        } else {
            reader.skip(class + 1);
            reader.get(bits)
        };
        let sign = SIGNS[class as usize];
        integer_step = integer_step.wrapping_add((change ^ sign).wrapping_sub(sign) as i64);
        integer = integer.wrapping_add(integer_step);
        *value_out = number(integer);
    }
    !reader.overrun()
}

#[inline]
fn decode_xor(state: State<'_>, times: &mut [i64], values: &mut [f64]) -> bool {
    let State { mut reader, mut time, mut step, mut value, value_step, first } = state;
    let (mut significant, mut trailing) = (value_step as u32 & 0xff, (value_step >> 8) as u32);
    for (i, (time_out, value_out)) in times.iter_mut().zip(values).enumerate() {
        let mut word = reader.peek();
        if i > 0 || !first {
            word = next_time(&mut reader, word, &mut time, &mut step);
        }
        *time_out = time;
        if word >> 63 == 0 {
            reader.skip(1);
        } else {
            if word >> 62 == 0b11 {
                let leading = (word >> 57) as u32 & 31;
                significant = ((word >> 51) as u32 & 63) | if (word >> 51) & 63 == 0 { 64 } else { 0 };
                if leading + significant > 64 {
                    return false;
                }
                trailing = 64 - leading - significant;
                reader.skip(13);
            } else {
                reader.skip(2);
            }
            value ^= reader.get_long(significant) << trailing;
        }
        *value_out = f64::from_bits(value);
    }
    !reader.overrun()
}
