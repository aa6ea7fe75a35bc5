//! Copies of short runs of numbers, for which a call of `memcpy` would cost more than the copy.

/// Numbers copied at once.
pub(crate) const CHUNK: usize = 16;

/// Copies all of `from`, reading nothing beyond it: there may be a cache line that nobody asked for.
#[inline]
pub(crate) fn copy_whole(from: &[i32], to: &mut [i32]) {
    const GROUP: usize = 4;
    let length = from.len();
    let to = &mut to[..length];
    // Most sequences are short: parts that overlap take any length without a jump, and the compiler calls nothing.
    if let Some(last) = length.checked_sub(CHUNK) {
        if length > 2 * CHUNK {
            to.copy_from_slice(from);
        } else {
            to[..CHUNK].copy_from_slice(&from[..CHUNK]);
            to[last..last + CHUNK].copy_from_slice(&from[last..last + CHUNK]);
        }
    } else if let Some(last) = length.checked_sub(GROUP) {
        for k in 0..CHUNK / GROUP {
            let at = (k * GROUP).min(last);
            to[at..at + GROUP].copy_from_slice(&from[at..at + GROUP]);
        }
    } else {
        for (to, from) in to.iter_mut().zip(from) {
            *to = *from;
        }
    }
}

/// Copies whole chunks; both are equally long.
#[inline]
pub(crate) fn copy_chunks(from: &[i32], to: &mut [i32]) {
    let (to, from) = (to.as_chunks_mut::<CHUNK>().0, from.as_chunks::<CHUNK>().0);
    // Most sequences are one chunk or two: copies of known size are a few moves, and the compiler calls nothing.
    if let (Some((to, more)), Some((from, rest))) = (to.split_first_mut(), from.split_first()) {
        *to = *from;
        if let (Some((to, more)), Some((from, rest))) = (more.split_first_mut(), rest.split_first())
        {
            *to = *from;
            if !rest.is_empty() {
                more.copy_from_slice(rest);
            }
        }
    }
}

/// Writes `first`, `first + 1`, ... into all slots.
#[inline]
pub(crate) fn write_run(slots: &mut [i32], first: i32) {
    for (slot, token) in slots.iter_mut().zip(first..) {
        *slot = token;
    }
}
