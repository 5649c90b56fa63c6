//! Makes what a step wrote fit for somebody else's terminal.
//!
//! A build is not trusted with the screen: whatever moves the cursor, clears, titles or answers is dropped. Colours
//! stay where they are asked for. A line that was overwritten with carriage returns is its last state, as on a screen.

/// A line is cut here, for a program that writes gigabytes without one must not fill the memory.
const LINE_BYTES: usize = 16 * 1024;

/// Bytes become lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pending: Vec<u8>,
}

impl Lines {
    /// More bytes; every line that is complete now goes to `line`.
    pub(super) fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(String)) {
        while let Some(at) = bytes.iter().position(|byte| *byte == b'\n') {
            let (head, rest) = bytes.split_at(at);
            if self.pending.is_empty() && head.len() <= LINE_BYTES {
                line(clean(head));
            } else {
                self.extend(head, &mut line);
                line(clean(&self.pending));
                self.pending.clear();
            }
            bytes = rest.get(1..).unwrap_or_default();
        }
        self.extend(bytes, &mut line);
    }

    /// What has no end yet. None: nothing.
    pub(super) fn pending(&self) -> Option<String> {
        (!self.pending.is_empty()).then(|| clean(&self.pending))
    }

    /// What has no end yet, as a line.
    pub(super) fn take(&mut self) -> Option<String> {
        let line = self.pending();
        self.pending.clear();
        line
    }

    fn extend(&mut self, mut bytes: &[u8], line: &mut impl FnMut(String)) {
        while self.pending.len() + bytes.len() > LINE_BYTES {
            let (head, rest) = bytes.split_at(LINE_BYTES.saturating_sub(self.pending.len()).min(bytes.len()));
            self.pending.extend_from_slice(head);
            self.overwrite();
            bytes = rest;
            if self.pending.len() >= LINE_BYTES {
                line(clean(&std::mem::take(&mut self.pending)));
            }
        }
        self.pending.extend_from_slice(bytes);
        self.overwrite();
    }

    /// Forgets what carriage returns overwrote. One at the end waits: `\r\n` is only the end of a line.
    fn overwrite(&mut self) {
        let ended = self.pending.iter().rev().take_while(|byte| **byte == b'\r').count();
        let body = self.pending.len() - ended;
        if let Some(at) = self.pending[..body].iter().rposition(|byte| *byte == b'\r') {
            self.pending.drain(..=at);
        }
    }
}

/// A line without anything but text and colours; ends in no colour.
pub(crate) fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    if bytes.iter().fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~')) {
        return text.into_owned();
    }
    let text = text.trim_end_matches('\r');
    let text = text.rsplit_once('\r').map_or(text, |(_, last)| last);
    let mut out = String::with_capacity(text.len());
    let mut column = 0;
    let mut coloured = false;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => coloured |= escape(&mut chars, &mut out),
            '\u{9b}' => coloured |= control_sequence(&mut chars, &mut out),
            '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => string(&mut chars),
            '\t' => {
                let spaces = 8 - column % 8;
                out.extend(std::iter::repeat_n(' ', spaces));
                column += spaces;
            }
            // Directional overrides make a line read as what it is not.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            c if c.is_control() => {}
            c => {
                out.push(c);
                column += 1;
            }
        }
    }
    if coloured {
        out.push_str("\u{1b}[0m");
    }
    out
}

/// What follows an escape character; whether it was a colour that stays.
fn escape(chars: &mut std::str::Chars<'_>, out: &mut String) -> bool {
    match chars.next() {
        Some('[') => return control_sequence(chars, out),
        Some(']' | 'P' | 'X' | '^' | '_') => string(chars),
        // Intermediates (as in `ESC ( B`) come before one last character.
        Some(' '..='/') => {
            chars.find(|c| !matches!(c, ' '..='/'));
        }
        _ => {}
    }
    false
}

/// `CSI parameters final`: only SGR stays.
fn control_sequence(chars: &mut std::str::Chars<'_>, out: &mut String) -> bool {
    let mut parameters = String::new();
    for c in chars.by_ref() {
        match c {
            '0'..='9' | ';' | ':' => parameters.push(c),
            ' '..='?' => parameters.push('?'),
            'm' if !parameters.contains('?') => {
                out.push_str("\u{1b}[");
                out.push_str(&parameters);
                out.push('m');
                return true;
            }
            _ => break,
        }
    }
    false
}

/// Up to its terminator: BEL, ST, or ESC and one more.
fn string(chars: &mut std::str::Chars<'_>) {
    while let Some(c) = chars.next() {
        match c {
            '\u{7}' | '\u{9c}' => return,
            '\u{1b}' => {
                chars.next();
                return;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(parts: &[&[u8]]) -> (Vec<String>, Option<String>) {
        let mut lines = Lines::default();
        let mut out = Vec::new();
        for part in parts {
            lines.push(part, |line| out.push(line));
        }
        let rest = lines.take();
        (out, rest)
    }

    #[test]
    fn lines_come_whole_however_they_arrive() {
        assert_eq!(
            lines(&[b"a\nb", b"c\n", b"\n", b"d"]),
            (vec!["a".into(), "bc".into(), String::new()], Some("d".into()))
        );
        assert_eq!(lines(&["gr\u{fc}n\n".as_bytes()]).0, ["gr\u{fc}n"]);
        assert_eq!(lines(&[b"gr\xc3", b"\xbcn\n"]).0, ["gr\u{fc}n"], "a character cut in two");
        assert_eq!(lines(&[b"\xff\n"]).0, ["\u{fffd}"]);
        assert_eq!(lines(&[]), (vec![], None));
    }

    #[test]
    fn carriage_returns_overwrite() {
        assert_eq!(lines(&[b"dos\r\nunix\n"]).0, ["dos", "unix"]);
        assert_eq!(lines(&[b"dos\r", b"\nunix\n"]).0, ["dos", "unix"]);
        assert_eq!(lines(&[b" 10%\r 50%", b"\r100%\n"]).0, ["100%"]);
        assert_eq!(lines(&[b"10%\r"]).1.as_deref(), Some("10%"));
        let mut busy = Lines::default();
        for _ in 0..100_000 {
            busy.push(b"\rprogress 50%", |_| panic!("no line ended"));
        }
        assert!(busy.pending.len() < 100);
    }

    #[test]
    fn only_text_and_colours_are_left() {
        for (given, want) in [
            ("\u{1b}[31mred\u{1b}[0m", "\u{1b}[31mred\u{1b}[0m\u{1b}[0m"),
            ("\u{1b}[2J\u{1b}[H\u{1b}[1;1Hhome", "home"),
            ("\u{1b}[10Aup\u{1b}[K", "up"),
            ("\u{1b}[?25lhidden\u{1b}[?1049h", "hidden"),
            ("\u{1b}]0;title\u{7}x\u{1b}]8;;http://e\u{1b}\\link", "xlink"),
            ("\u{1b}Pq#0\u{1b}\\sixel", "sixel"),
            ("\u{9b}2Jc1", "c1"),
            ("\u{1b}(Bcharset\u{1b}7\u{1b}8", "charset"),
            ("\u{1b}[6nreport\u{1b}[c", "report"),
            ("bell\u{7}back\u{8}\u{8}nul\0", "bellbacknul"),
            ("a\tb", "a       b"),
            ("\u{202e}gnp.exe", "gnp.exe"),
            ("cut \u{1b}[3", "cut "),
            ("cut \u{1b}", "cut "),
            ("\u{1b}]never ends", ""),
        ] {
            assert_eq!(clean(given.as_bytes()), want, "{given:?}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut lines = Lines::default();
        let mut count = 0;
        for _ in 0..100 {
            lines.push(&[b'x'; 10_000], |line| {
                assert_eq!(line.len(), LINE_BYTES);
                count += 1;
            });
        }
        assert_eq!(count, 1_000_000 / LINE_BYTES);
        assert!(lines.pending.len() <= LINE_BYTES);
    }
}
