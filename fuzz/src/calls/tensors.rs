//! The calls about tensors: made, lent, read, given away and taken back by DLPack.

use super::super::c::*;
use super::{Host, freed};
use std::ffi::c_void;
use std::ptr::{null, null_mut};

/// # Safety of all of these
/// As in the file above.
impl Host<'_> {
    pub(super) fn keep_tensor(&mut self, status: i32, out: *mut c_void) {
        let i = self.input.below(4);
        if self.said(status) {
            // Safety: as said there.
            unsafe { Self::place(&mut self.tensor[i], out, dfx_tensor_release) };
        } else {
            assert!(out.is_null(), "written on failure");
        }
    }

    fn desc(&mut self) -> Desc {
        let mut dims = [0; 8];
        let rank = self.input.size(3) as u32;
        for d in dims.iter_mut().take(rank.min(8) as usize) {
            *d = self.input.size(4) as i64;
        }
        let dtype = match self.input.u8() {
            0..=127 => 1,
            n => u32::from(n) % 10,
        };
        Desc { dtype, rank, dims }
    }

    pub(super) unsafe fn create_tensor(&mut self) {
        let (engine, desc, err) = (self.any_engine(), self.desc(), self.err());
        let fill = self.input.u8();
        let copied = [(u64::from(fill) * 0x0101_0101_0101_0101) >> (fill & 7); 64];
        // as many bytes as desc says, or none
        let data = if desc.bytes() <= 512 && fill < 250 { copied.as_ptr().cast() } else { null() };
        let mut out = null_mut();
        // Safety: as above.
        let status = unsafe { dfx_tensor_create(engine, &raw const desc, data, &raw mut out, err) };
        self.keep_tensor(status, out);
    }

    pub(super) unsafe fn wrap_tensor(&mut self) {
        let (engine, desc, err) = (self.any_engine(), self.desc(), self.err());
        let shift = usize::from(self.input.u8() > 230);
        let mut out = null_mut();
        if desc.bytes() > 504 {
            return; // there is no such memory to lend
        }
        // Safety: the memory is alive until the end and never written again while it is lent.
        let status = unsafe {
            let data = self.lent.as_mut_ptr().cast::<u8>().add(shift).cast();
            let user = (&raw mut *self.freed).cast();
            dfx_tensor_wrap(engine, &raw const desc, data, Some(freed), user, &raw mut out, err)
        };
        self.wrapped += u32::from(status == 0);
        self.keep_tensor(status, out);
    }

    pub(super) unsafe fn use_tensor(&mut self) {
        let (t, err) = (self.any_tensor(), self.err());
        // Safety: the tensor is alive, and so is what it lends while it is held.
        unsafe {
            match self.input.u8() % 4 {
                0 => {
                    let (mut data, mut bytes) = (null(), 0);
                    let status = dfx_tensor_map(t, &raw mut data, &raw mut bytes, err);
                    if self.said(status) && bytes > 0 {
                        let all = std::slice::from_raw_parts(data.cast::<u8>(), bytes);
                        std::hint::black_box(all.iter().fold(0u8, |a, b| a.wrapping_add(*b)));
                    }
                }
                1 => {
                    let mut desc = Desc { dtype: 0, rank: 0, dims: [0; 8] };
                    let status = dfx_tensor_desc(t, &raw mut desc, err);
                    if self.said(status) {
                        assert!(desc.rank <= 8 && (1..=8).contains(&desc.dtype));
                    }
                }
                2 => {
                    dfx_tensor_retain(t);
                    dfx_tensor_release(t);
                }
                _ => self.round_trip(t, err),
            }
        }
    }

    /// Out through DLPack and in again.
    unsafe fn round_trip(&mut self, t: *mut c_void, err: *mut DfxError) {
        let (mut managed, mut out) = (null_mut(), null_mut());
        let engine = self.any_engine();
        // Safety: what comes out is taken over, or ended by its own deleter.
        unsafe {
            let status = dfx_tensor_to_dlpack(t, null_mut(), &raw mut managed, err);
            if !self.said(status) {
                return;
            }
            let err = self.err();
            let status = dfx_tensor_from_dlpack(engine, managed, null_mut(), &raw mut out, err);
            if status != 0 {
                let managed = managed.cast::<DlManaged>();
                if let Some(deleter) = (*managed).deleter {
                    deleter(managed);
                }
            }
            self.keep_tensor(status, out);
        }
    }
}
