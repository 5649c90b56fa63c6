//! Several root file systems as one tar, a folder each, as buildx has it.

use std::io::{Read, Write};

use anyhow::Result;

use super::entry::{each, names};

/// A name that fits a header's field; a longer one goes before the header, as a record of its own.
const NAME_BYTES: usize = 100;
/// Where a header has the name, the link's target, and the rest of the name.
const NAME: std::ops::Range<usize> = 0..100;
const LINK: std::ops::Range<usize> = 157..257;
const PREFIX: std::ops::Range<usize> = 345..500;

/// Appends the tar `from` to `to`, everything below `folder`.
pub(crate) fn append<W: Write>(to: &mut tar::Builder<W>, folder: &str, from: impl Read) -> Result<()> {
    let mut own = tar::Header::new_ustar();
    own.set_entry_type(tar::EntryType::Directory);
    own.set_mode(0o755);
    own.set_mtime(0);
    own.set_uid(0);
    own.set_gid(0);
    own.set_size(0);
    to.append_data(&mut own, format!("{folder}/"), std::io::empty())?;
    each(from, |entry| {
        let directory = entry.header().entry_type() == tar::EntryType::Directory;
        let inner = entry.path_bytes().into_owned();
        let inner = names(&inner)?;
        if inner.is_empty() {
            return Ok(());
        }
        let mut path = [&[folder.as_bytes()][..], &inner].concat().join(&b'/');
        if directory {
            path.push(b'/');
        }
        let link = match (entry.header().entry_type(), entry.link_name_bytes()) {
            (tar::EntryType::Link, Some(target)) => {
                Some([&[folder.as_bytes()][..], &names(&target)?].concat().join(&b'/'))
            }
            (_, target) => target.map(std::borrow::Cow::into_owned),
        };
        let mut records: Vec<(String, Vec<u8>)> = Vec::new();
        if let Some(extensions) = entry.pax_extensions()? {
            for extension in extensions {
                let extension = extension?;
                let key = extension.key().map_err(std::io::Error::other)?;
                if !matches!(key, "path" | "linkpath" | "size") {
                    records.push((key.to_owned(), extension.value_bytes().to_vec()));
                }
            }
        }
        let mut header = entry.header().clone();
        header.set_size(entry.size());
        if header.as_ustar().is_some() {
            header.as_mut_bytes()[PREFIX].fill(0);
        }
        put(header.as_mut_bytes(), NAME, &path, "path", &mut records);
        put(header.as_mut_bytes(), LINK, link.as_deref().unwrap_or_default(), "linkpath", &mut records);
        header.set_cksum();
        if !records.is_empty() {
            to.append_pax_extensions(records.iter().map(|(key, value)| (key.as_str(), value.as_slice())))?;
        }
        to.append(&header, entry)?;
        Ok(())
    })
}

/// Puts a name into a field of a header, and in full beside it where it is too long.
fn put(
    header: &mut [u8],
    field: std::ops::Range<usize>,
    value: &[u8],
    key: &str,
    records: &mut Vec<(String, Vec<u8>)>,
) {
    let fits = value.len().min(NAME_BYTES);
    let field = &mut header[field];
    field.fill(0);
    field[..fits].copy_from_slice(&value[..fits]);
    if fits < value.len() {
        records.push((key.to_owned(), value.to_vec()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(tar: &mut tar::Builder<Vec<u8>>, kind: tar::EntryType, path: &str, link: &str, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        if link.is_empty() {
            tar.append_data(&mut header, path, content).unwrap();
        } else {
            tar.append_link(&mut header, path, link).unwrap();
        }
    }

    #[test]
    fn everything_moves_below_its_folder_and_stays_what_it_was() {
        let long = format!("deep/{}", "x".repeat(200));
        let mut tar = tar::Builder::new(Vec::new());
        entry(&mut tar, tar::EntryType::Directory, "deep/", "", b"");
        tar.append_pax_extensions([("SCHILY.xattr.user.k", &b"v"[..])]).unwrap();
        entry(&mut tar, tar::EntryType::Regular, "deep/file", "", b"content");
        entry(&mut tar, tar::EntryType::Regular, &long, "", b"long");
        entry(&mut tar, tar::EntryType::Link, "hard", "deep/file", b"");
        entry(&mut tar, tar::EntryType::Symlink, "soft", "/deep/file", b"");
        let tar = tar.into_inner().unwrap();

        let mut out = tar::Builder::new(Vec::new());
        append(&mut out, "linux_amd64", &tar[..]).unwrap();
        let out = out.into_inner().unwrap();
        let mut found = Vec::new();
        each(&out[..], |entry| {
            let mut content = String::new();
            let link = entry.link_name_bytes().map(|link| String::from_utf8_lossy(&link).into_owned());
            let extended = entry.pax_extensions()?.is_some_and(|mut all| {
                all.any(|one| one.is_ok_and(|one| one.key() == Ok("SCHILY.xattr.user.k")))
            });
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            entry.read_to_string(&mut content)?;
            found.push((path, link.unwrap_or_default(), content, extended));
            Ok(())
        })
        .unwrap();
        let want = |path: &str, link: &str, content: &str, extended| {
            (format!("linux_amd64/{path}"), link.to_owned(), content.to_owned(), extended)
        };
        assert_eq!(
            found,
            [
                want("", "", "", false),
                want("deep/", "", "", false),
                want("deep/file", "", "content", true),
                want(&long, "", "long", false),
                want("hard", "linux_amd64/deep/file", "", false),
                want("soft", "/deep/file", "", false),
            ]
        );
    }

    #[test]
    fn a_name_that_leads_out_is_refused() {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..5].copy_from_slice(b"../up");
        header.set_size(0);
        header.set_cksum();
        tar.append(&header, std::io::empty()).unwrap();
        let tar = tar.into_inner().unwrap();
        let error = append(&mut tar::Builder::new(Vec::new()), "f", &tar[..]).unwrap_err();
        assert!(error.to_string().contains("../up"), "{error}");
    }
}
