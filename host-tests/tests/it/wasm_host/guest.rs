//! Reading and writing the guest's memory, and the ABI's form of a header map.

use super::state::{HeaderMap, HostState};
use wasmtime::{Caller, Memory};

/// A proxy-wasm status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Status {
    Ok = 0,
    NotFound = 1,
    BadArgument = 2,
    CasMismatch = 8,
}

/// What every import is called with.
pub type Guest<'a> = Caller<'a, HostState>;

/// The bytes at an address of the guest.
pub fn read(guest: &mut Guest<'_>, address: i32, size: i32) -> Vec<u8> {
    let (start, size) = (address as u32 as usize, size as u32 as usize);
    let memory = memory(guest);
    memory.data(&*guest)[start..start + size].to_vec()
}

/// Text at an address of the guest.
pub fn read_text(guest: &mut Guest<'_>, address: i32, size: i32) -> String {
    String::from_utf8_lossy(&read(guest, address, size)).into_owned()
}

/// Writes bytes to an address of the guest.
pub fn write(guest: &mut Guest<'_>, address: i32, bytes: &[u8]) {
    let memory = memory(guest);
    memory
        .write(guest, address as u32 as usize, bytes)
        .expect("the address is the guest's");
}

/// Writes a 32-bit number to an address of the guest.
pub fn write_u32(guest: &mut Guest<'_>, address: i32, value: u32) {
    write(guest, address, &value.to_le_bytes());
}

/// Gives bytes to the guest: it allocates, and gets address and size at the two addresses.
pub fn give(guest: &mut Guest<'_>, bytes: &[u8], address_at: i32, size_at: i32) {
    let address = if bytes.is_empty() {
        0
    } else {
        allocate(guest, bytes.len())
    };
    if !bytes.is_empty() {
        write(guest, address, bytes);
    }
    write_u32(guest, address_at, address as u32);
    write_u32(guest, size_at, bytes.len() as u32);
}

/// The ABI's form of a header map: count, sizes, then each name and value with a final zero.
pub fn encode_map(map: &HeaderMap) -> Vec<u8> {
    let mut bytes = (map.len() as u32).to_le_bytes().to_vec();
    for (name, value) in map {
        bytes.extend((name.len() as u32).to_le_bytes());
        bytes.extend((value.len() as u32).to_le_bytes());
    }
    for (name, value) in map {
        bytes.extend(name.as_bytes());
        bytes.push(0);
        bytes.extend(value);
        bytes.push(0);
    }
    bytes
}

/// The header map in the ABI's form; an empty text is an empty map.
pub fn decode_map(bytes: &[u8]) -> HeaderMap {
    let number = |at: usize| {
        let four = bytes[at..at + 4].try_into().expect("four bytes");
        u32::from_le_bytes(four) as usize
    };
    let count = if bytes.is_empty() { 0 } else { number(0) };
    let mut at = 4 + count * 8;
    let mut map = HeaderMap::new();
    for entry in 0..count {
        let (name_size, value_size) = (number(4 + entry * 8), number(8 + entry * 8));
        let name = String::from_utf8_lossy(&bytes[at..at + name_size]).into_owned();
        at += name_size + 1;
        map.push((name, bytes[at..at + value_size].to_vec()));
        at += value_size + 1;
    }
    map
}

fn allocate(guest: &mut Guest<'_>, size: usize) -> i32 {
    let export = guest
        .get_export("proxy_on_memory_allocate")
        .and_then(|e| e.into_func());
    let function = export.expect("the SDK exports its allocator");
    let typed = function
        .typed::<i32, i32>(&*guest)
        .expect("it takes a size and gives an address");
    typed
        .call(guest, size as i32)
        .expect("the guest has memory")
}

fn memory(guest: &mut Guest<'_>) -> Memory {
    let export = guest
        .get_export("memory")
        .and_then(|export| export.into_memory());
    export.expect("the module exports its memory")
}
