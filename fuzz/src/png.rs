//! The PNG reader. The first byte chooses the channels. Laws: an accepted picture has as many values as its size says;
//! what is unpacked fits the budget, however large the file says it is.

use super::memory::bounded;
use diffx::mem::Budget;
use diffx::train::data::png::decode;
use diffx::train::data::reader::Channels;
use std::io::Cursor;

pub const WORDS: &[&str] = &[
    "IHDR", "IDAT", "IEND", "PLTE", "tRNS", "iCCP", "zTXt", "iTXt", "tEXt", "acTL", "fcTL", "fdAT",
    "gAMA", "sRGB", "cICP", "eXIf", "pHYs", "bKGD",
];

const CAP: u64 = 1 << 16;
/// Windows of the decompressor, a chunk, two rows; the pixels, as they come and as they are wanted, fit the cap.
const OUTSIDE: usize = 512 << 10;
const PER_BYTE: usize = 16;

pub fn run(data: &[u8]) {
    let Some((kind, file)) = data.split_first() else { return };
    let channels = [Channels::Grey, Channels::Rgb, Channels::Rgba][usize::from(kind % 3)];
    let budget = Budget::new(CAP, None);
    bounded(OUTSIDE + PER_BYTE * data.len() + 3 * CAP as usize, || {
        let mut pixels = Vec::new();
        if let Ok((width, height)) = decode(Cursor::new(file), channels, &budget, &mut pixels) {
            assert_eq!(pixels.len(), width * height * channels.count());
            assert!(4 * pixels.len() as u64 <= CAP);
        }
    });
}

/// A picture with its pixels stored as they are, every checksum right.
fn picture(width: u32, height: u32, depth: u8, colour: u8, samples: usize) -> Vec<u8> {
    let row = (width as usize * samples * usize::from(depth)).div_ceil(8) + 1;
    let raw: Vec<u8> = (0..row * height as usize)
        .map(|i| if i % row == 0 { (i / row % 5) as u8 } else { (i * 37) as u8 })
        .collect();
    let size = (raw.len() as u16).to_le_bytes();
    let not = (!(raw.len() as u16)).to_le_bytes();
    let adler = raw.iter().fold((1u32, 0u32), |(a, b), v| {
        let a = (a + u32::from(*v)) % 65521;
        (a, (b + a) % 65521)
    });
    let adler = (adler.1 << 16 | adler.0).to_be_bytes();
    let packed = [&[0x78, 0x01, 1][..], &size, &not, &raw, &adler].concat();
    let head =
        [&width.to_be_bytes()[..], &height.to_be_bytes(), &[depth, colour, 0, 0, 0]].concat();
    let palette: Vec<u8> = (0..48).collect();
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |name: &[u8], data: &[u8]| {
        let body = [name, data].concat();
        let crc = body.iter().fold(!0u32, |crc, b| {
            (0..8)
                .fold(crc ^ u32::from(*b), |c, _| (c >> 1) ^ (0xEDB8_8320 & (c & 1).wrapping_neg()))
        });
        out.extend((data.len() as u32).to_be_bytes());
        out.extend(body);
        out.extend((!crc).to_be_bytes());
    };
    chunk(b"IHDR", &head);
    if colour == 3 {
        chunk(b"PLTE", &palette);
        chunk(b"tRNS", &[0, 128, 255]);
    }
    chunk(b"IDAT", &packed);
    chunk(b"IEND", &[]);
    out
}

pub fn seeds() -> Vec<Vec<u8>> {
    [
        (2, 2, 8, 2, 3),
        (3, 2, 8, 0, 1),
        (2, 3, 8, 6, 4),
        (4, 2, 4, 3, 1),
        (1, 1, 16, 4, 2),
        (9, 1, 1, 0, 1),
        (0x4000, 0x4000, 8, 6, 0),
    ]
    .iter()
    .enumerate()
    .map(|(i, &(w, h, depth, colour, samples))| {
        [&[i as u8][..], &picture(w, h, depth, colour, samples)].concat()
    })
    .collect()
}
