//! Layers by hand: what Engines would not unpack, whiteouts, sizes, and what is kept of them.

use std::io::{self, Read};

use super::super::testing::{AMD64, Layer, tree};
use super::super::{Index, Tree};
use super::{layer, passes};

#[test]
fn layers_that_cannot_be_unpacked_are_refused() {
    let link_out = layer().symlink("a", "a").file("a/b", 0o644, b"");
    for (layer, says) in [
        (layer().file("../app", 0o755, b"x"), "leaves it"),
        (layer().file("a/../../app", 0o755, b"x"), "leaves it"),
        (layer().hard_link("a", "../../b"), "leaves it"),
        (layer().file("a", 0o644, b"").file("a/b", 0o644, b""), "with files in it"),
        (layer().file("a/.wh...", 0o644, b""), "whiteout of no file"),
        (link_out, "more links"),
    ] {
        let error = Tree::merge([&layer.index()]).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    for harmless in ["/abs/./app", "//abs//app", "/../abs/app", "x/../abs/app"] {
        passes(&["/abs/app"], &[layer().program(harmless, AMD64)]);
    }
}

#[test]
fn a_layer_goes_through_its_own_links_only() {
    let lower = || layer().symlink("lib", "usr/lib").folder("usr/lib");
    let mut found = tree(&[lower().program("lib/app", AMD64)]);
    assert!(found.find(0, b"/usr/lib/app").is_ok());
    // Laid over one another, a folder hides a link.
    found = tree(&[lower(), layer().program("lib/app", AMD64)]);
    assert!(found.find(0, b"/usr/lib/app").is_err() && found.find(0, b"/lib/app").is_ok());
}

#[test]
fn whiteouts_hide_what_is_below_and_nothing_else() {
    let lower = || layer().program("a/x", AMD64).program("a/y", AMD64).program("b", AMD64);
    let names = |layers: &[Layer]| {
        let tree = tree(layers);
        let paths = ["/a/x", "/a/y", "/a/z", "/b", "/b/c"];
        paths.into_iter().filter(|path| tree.find(0, path.as_bytes()).is_ok()).collect::<Vec<_>>()
    };
    let opaque = || layer().program("a/z", AMD64).file("a/.wh..wh..opq", 0, b"");
    assert_eq!(names(&[lower(), opaque()]), ["/a/z", "/b"]);
    let again = || layer().file(".wh.a", 0, b"").program("a/z", AMD64);
    assert_eq!(names(&[lower(), again()]), ["/a/z", "/b"]);
    let before = || layer().program("a/z", AMD64).file(".wh.a", 0, b"");
    assert_eq!(names(&[lower(), before()]), ["/a/z", "/b"]);
    assert_eq!(names(&[lower(), layer().program("b/c", AMD64)]), ["/a/x", "/a/y", "/b", "/b/c"]);
    assert_eq!(names(&[lower(), layer().file(".wh..wh..opq", 0, b"").folder("a")]), [""; 0]);
    let aufs = layer().file(".wh..wh.plnk/1", 0, b"").file(".wh..wh.aufs", 0, b"");
    assert_eq!(names(&[lower(), aufs]), ["/a/x", "/a/y", "/b"]);
}

/// 4 GiB of zeros, and what was asked for at a time.
struct Zeros {
    before: Vec<u8>,
    zeros: u64,
    after: Vec<u8>,
}

impl Read for Zeros {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(buffer.len() <= 64 * 1024, "{} bytes at once", buffer.len());
        if !self.before.is_empty() {
            let count = self.before.len().min(buffer.len());
            buffer[..count].copy_from_slice(&self.before[..count]);
            self.before.drain(..count);
            return Ok(count);
        }
        if self.zeros > 0 {
            let count = usize::try_from(self.zeros).unwrap_or(usize::MAX).min(buffer.len());
            self.zeros -= count as u64;
            buffer[..count].fill(0);
            return Ok(count);
        }
        let count = self.after.as_slice().read(buffer)?;
        self.after.drain(..count);
        Ok(count)
    }
}

#[test]
fn four_gibibytes_of_nothing_cost_nothing() {
    let size = 4 * 1024 * 1024 * 1024;
    let mut header = tar::Header::new_gnu();
    header.set_path("sparse").unwrap();
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    let zeros =
        Zeros { before: header.as_bytes().to_vec(), zeros: size, after: layer().program("app", AMD64).tar() };
    let index = Index::read(zeros).unwrap();
    assert!(index.as_bytes().len() < 100);
    assert!(Tree::merge([&index]).unwrap().find(0, b"/app").is_ok());
}

#[test]
fn more_files_than_the_limit_are_refused() {
    let entry = layer().folder(&"d/".repeat(20)).tar()[..512].to_vec();
    /// One entry, over and over, each in a folder of its own.
    struct Endless(Vec<u8>, u32, usize);
    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.2 == self.0.len() {
                self.1 += 1;
                let mut header = tar::Header::from_byte_slice(&self.0).clone();
                header.as_old_mut().name[..8].copy_from_slice(format!("{:08x}", self.1).as_bytes());
                header.set_cksum();
                (self.0, self.2) = (header.as_bytes().to_vec(), 0);
            }
            let count = buffer.len().min(self.0.len() - self.2);
            buffer[..count].copy_from_slice(&self.0[self.2..self.2 + count]);
            self.2 += count;
            Ok(count)
        }
    }
    let index = Index::read(Endless(entry, 0, 512)).unwrap();
    let error = Tree::merge([&index]).unwrap_err().to_string();
    assert!(error.contains("more than 1000000 files"), "{error}");
}

#[test]
fn what_was_kept_of_a_layer_is_read_with_care() {
    let whole = layer().program("a/b/app", AMD64).symlink("x", "/a").index();
    let bytes = whole.as_bytes();
    assert_eq!(Index::from_bytes(bytes.to_vec()).unwrap(), whole);
    for length in 0..bytes.len() {
        if let Ok(index) = Index::from_bytes(bytes[..length].to_vec()) {
            drop(Tree::merge([&index]));
        }
    }
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1 << bit;
            if let Ok(index) = Index::from_bytes(damaged) {
                drop(Tree::merge([&index]));
            }
        }
    }
    assert!(Index::from_bytes(b"\x02\x08\x63".to_vec()).unwrap_err().to_string().contains("another version"));
}
