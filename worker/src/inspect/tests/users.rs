//! A command that the image's `USER` may not execute is a warning.

use super::*;

const PASSWD: &[u8] = b"root:x:0:0::/:/bin/sh\napp:x:1000:1000::/:/bin/sh\n";
const GROUP: &[u8] = b"root:x:0:\napp:x:1000:\nstaff:x:50:app\n";

fn etc() -> Layer {
    layer().folder("etc").file("etc/passwd", 0o644, PASSWD).file("etc/group", 0o644, GROUP)
}

/// The warnings about an image of this user that runs `/srv/app`.
#[track_caller]
fn warned(user: &str, layers: &[Layer]) -> Vec<String> {
    let config = Config { user: user.to_owned(), ..running(&["/srv/app"]) };
    let verdict = judged(config, layers, &Checks::default()).unwrap();
    verdict.warnings.into_iter().map(|warning| warning.message).collect()
}

fn app(folder: u32, mode: u32, uid: u64, gid: u64) -> [Layer; 2] {
    let program = AMD64.bytes();
    [etc(), layer().folder_of("srv", folder).file("srv/app", mode, &program).owned(uid, gid)]
}

#[test]
fn a_command_that_its_user_may_execute_is_no_warning() {
    for (user, layers) in [
        ("app", app(0o755, 0o755, 0, 0)),
        ("app", app(0o755, 0o700, 1000, 0)),
        ("app", app(0o755, 0o710, 0, 1000)),
        ("app", app(0o711, 0o710, 0, 50)),
        ("app:staff", app(0o755, 0o710, 0, 50)),
        ("4242:50", app(0o755, 0o710, 0, 50)),
        ("1000", app(0o755, 0o100, 1000, 0)),
        // Root may, if anybody may.
        ("", app(0o700, 0o100, 5, 5)),
        ("root", app(0o000, 0o010, 5, 5)),
        ("0:50", app(0o000, 0o010, 5, 5)),
    ] {
        assert_eq!(warned(user, &layers), Vec::<String>::new(), "USER {user}");
    }
}

#[test]
fn a_command_that_its_user_may_not_execute_is_a_warning() {
    for (user, layers, says) in [
        (
            "app",
            app(0o755, 0o700, 0, 0),
            "USER app may not execute the image's command \"/srv/app\": /srv/app has mode 0700 and belongs to 0:0",
        ),
        // The owner's bits count for the owner, whatever others may.
        ("app", app(0o755, 0o077, 1000, 0), "/srv/app has mode 0077 and belongs to 1000:0"),
        ("app", app(0o755, 0o705, 0, 50), "/srv/app has mode 0705 and belongs to 0:50"),
        // A group that is named replaces those of the user.
        ("app:app", app(0o755, 0o710, 0, 50), "USER app:app may not execute"),
        ("4242", app(0o755, 0o750, 0, 1000), "USER 4242 may not execute"),
        (
            "app",
            app(0o700, 0o755, 0, 0),
            "USER app may not reach the image's command \"/srv/app\": the folder /srv has mode 0700",
        ),
        ("nope", app(0o755, 0o755, 0, 0), "names the user \"nope\", who is not in its /etc/passwd"),
        ("app:nope", app(0o755, 0o755, 0, 0), "names the group \"nope\", which is not in its /etc/group"),
    ] {
        let warnings = warned(user, &layers);
        assert!(matches!(&warnings[..], [one] if one.contains(says)), "USER {user}: {warnings:?}");
    }
}

#[test]
fn scripts_interpreters_and_links_count_too() {
    let shell = AMD64.bytes();
    let script = |mode: u32, shell_mode: u32| {
        let files = layer().folder("srv").file("srv/app", mode, b"#!/bin/sh\n");
        [etc(), files.folder("bin").file("bin/sh", shell_mode, &shell)]
    };
    assert!(warned("app", &script(0o755, 0o755)).is_empty());
    assert!(warned("app", &script(0o711, 0o755))[0].contains("may not read the image's command"));
    assert!(
        warned("app", &script(0o755, 0o744))[0]
            .contains("the interpreter \"/bin/sh\": /bin/sh has mode 0744")
    );
    // A link counts with every folder on its way.
    let linked = [
        etc(),
        layer().folder("srv").symlink("srv/app", "/root/bin/app"),
        layer().folder_of("root", 0o700).folder("root/bin").program("root/bin/app", AMD64),
    ];
    let warnings = warned("app", &linked);
    assert!(matches!(&warnings[..], [one] if one.contains("the folder /root has mode 0700")), "{warnings:?}");
}

#[test]
fn a_later_layer_changes_whose_a_file_is() {
    let [etc, first] = app(0o755, 0o700, 0, 0);
    let program = AMD64.bytes();
    let again = layer().folder("srv").file("srv/app", 0o755, &program);
    assert!(warned("app", &[etc, first, again]).is_empty());
    // A folder that a layer only goes through stays as it was.
    let [etc, first] = app(0o700, 0o755, 0, 0);
    let through = layer().file("srv/other", 0o644, b"");
    assert!(warned("app", &[etc, first, through])[0].contains("the folder /srv has mode 0700"));
}

#[test]
fn what_cannot_be_told_is_no_warning() {
    let long = [PASSWD, &vec![b'#'; 128 * 1024]].concat();
    let [_, files] = app(0o755, 0o700, 0, 0);
    let etc = layer().folder("etc").file("etc/passwd", 0o644, &long).file("etc/group", 0o644, GROUP);
    assert!(warned("app", &[etc, files]).is_empty());
}
