//! Models inside the library, by short name, so that a first sample needs no file.

/// Name and bytes of each.
const CARRIED: &[(&str, &[u8])] = &[("vix", include_bytes!("../../models/vix.safetensors"))];

/// The file carried under that name.
pub fn find(name: &str) -> Option<&'static [u8]> {
    CARRIED.iter().find(|(n, _)| *n == name).map(|(_, bytes)| *bytes)
}

/// All names.
pub fn names() -> impl Iterator<Item = &'static str> {
    CARRIED.iter().map(|(n, _)| *n)
}
