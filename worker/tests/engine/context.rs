//! What the session serves is what the image holds.

use archyard_worker::engine::BuildRequest;

use crate::fixture::{Kind, Tree, build, dockerfile, engine, request, unique};

on_every_engine! {
    equal_names_sizes_and_times_but_other_bytes_are_another_image,
    another_dockerfile_of_equal_length_is_another_build,
    an_unchanged_tree_sends_no_content,
    only_what_the_dockerfile_copies_is_sent,
    a_context_that_is_read_whole_makes_the_same_image,
    every_kind_of_entry_arrives_as_it_is,
    a_file_of_two_names_leaves_no_third_in_a_later_build,
    a_file_that_differs_only_in_its_attributes_is_another_image,
    large_files_and_many_small_ones_arrive_whole,
}

async fn equal_names_sizes_and_times_but_other_bytes_are_another_image(on: Kind) {
    let mut request = request(&dockerfile("COPY data /data\nRUN cat /data\n"));
    let salt = unique("x");
    let mut images = Vec::new();
    for letter in ["a", "b", "a"] {
        let data = format!("{letter}{salt}");
        let tree = Tree::builder().busybox().file("data", data.as_bytes()).done();
        // The same key: the Engine compares with what it kept of the build before.
        request.build_ref = unique("build");
        let ended = build(&engine(on), request.clone(), tree).await;
        let cached = letter == "a" && !images.is_empty();
        assert_eq!(ended.output(1), if cached { String::new() } else { data });
        images.push(ended.succeeded().image);
    }
    assert_ne!(images[0], images[1]);
    assert_eq!(images[0], images[2]);
}

async fn another_dockerfile_of_equal_length_is_another_build(on: Kind) {
    let mut request = request(&dockerfile("RUN echo a\n"));
    let tree = Tree::builder().busybox().done();
    for letter in ["a", "b"] {
        request.build_ref = unique("build");
        request.no_cache = true;
        request.dockerfile = dockerfile(&format!("RUN echo {letter}\n")).into();
        let ended = build(&engine(on), request.clone(), tree.clone()).await;
        ended.succeeded();
        assert_eq!(ended.output(1), format!("{letter}\n"));
    }
}

async fn an_unchanged_tree_sends_no_content(on: Kind) {
    let content = unique("content");
    let tree = Tree::builder().busybox().file("data", content.as_bytes()).done();
    let mut request = request(&dockerfile("COPY data /data\nRUN cat /data\n"));
    build(&engine(on), request.clone(), tree.clone()).await.succeeded();
    tree.lose(content.as_bytes());
    request.build_ref = unique("build");
    request.no_cache = true;
    let ended = build(&engine(on), request, tree).await;
    ended.succeeded();
    assert_eq!(ended.output(1), content);
}

async fn only_what_the_dockerfile_copies_is_sent(on: Kind) {
    let lost = unique("lost");
    let builder = Tree::builder().busybox().directory("used", 0o755).file("used/file", b"1");
    let tree = builder
        .symlink("link", "used")
        .directory("unused", 0o755)
        .file("unused/file", lost.as_bytes())
        .done();
    tree.lose(lost.as_bytes());
    let steps = "COPY link/file /one\nCOPY used/* /two/\nRUN cat /one /two/file; ls /two";
    let text = dockerfile(&format!("{steps} # {}\n", unique("x")));
    let ended = build(&engine(on), request(&text), tree).await;
    ended.succeeded();
    assert_eq!(ended.output(1), "11file\n");
}

async fn a_context_that_is_read_whole_makes_the_same_image(on: Kind) {
    let salt = unique("salt");
    let tree = Tree::builder()
        .busybox()
        .directory("used", 0o750)
        .file("used/file", salt.as_bytes())
        .symlink("link", "used")
        .done();
    let steps = "COPY link/file /one\nCOPY used /two\nCOPY . /all\n\
                 RUN --mount=type=bind,target=/context cat /context/used/file /one";
    let chosen = request(&dockerfile(&format!("{steps}\n")));
    let mut images = Vec::new();
    for whole_context in [false, true] {
        let request = BuildRequest { whole_context, build_ref: unique("build"), ..chosen.clone() };
        let ended = build(&engine(on), request, tree.clone()).await;
        images.push(ended.succeeded().clone());
        assert!(ended.vertices().any(|vertex| vertex.name.contains("load build context")), "{whole_context}");
    }
    assert_eq!(images[0].image, images[1].image);
    // Found in the cache: a step is known by what is in the files, not by how they came.
    assert!(images[0].cached_steps < images[0].steps, "{images:?}");
    assert_eq!(images[1].cached_steps, images[1].steps);

    let request = BuildRequest { whole_context: true, ..request(&dockerfile("COPY nothing /\n")) };
    let failure = build(&engine(on), request, tree).await.failure();
    assert!(failure.message.ends_with("COPY nothing /: \"/nothing\" not found"), "{failure:?}");
}

async fn every_kind_of_entry_arrives_as_it_is(on: Kind) {
    let tree = Tree::builder()
        .busybox()
        .directory("d", 0o1777)
        .file_with_mode("d/tool", b"tool", 0o6755)
        .file("d/empty", b"")
        .hardlink("d/twin", "d/tool")
        .symlink("d/link", "tool")
        .symlink("d/dangling", "/no/where")
        .file("d/attributed", b"x")
        .xattr("user.archyard", b"1")
        .file("d/\u{e4} b", b"umlaut")
        .directory("d-", 0o700)
        .file("d-/late", b"sorts after d/, before d.")
        .file("d.txt", b"last")
        .file("salt", unique("salt").as_bytes())
        .done();
    let text = dockerfile(
        "COPY . /c\nWORKDIR /c/d\n\
         RUN stat -c '%n %a %F %u:%g' . ../d- && stat -c '%n %a %F %u:%g %Y' tool empty link && \
         readlink link && readlink dangling && [ tool -ef twin ] && cat tool '\u{e4} b' ../d-/late ../d.txt\n",
    );
    let ended = build(&engine(on), request(&text), tree).await;
    ended.succeeded();
    let time = 1_700_000_000;
    let want = format!(
        ". 1777 directory 0:0\n\
         ../d- 700 directory 0:0\n\
         tool 6755 regular file 0:0 {time}\n\
         empty 644 regular empty file 0:0 {time}\n\
         link 777 symbolic link 0:0 {time}\n\
         tool\n/no/where\ntoolumlautsorts after d/, before d.last"
    );
    assert_eq!(ended.output(1), want);
}

async fn a_file_of_two_names_leaves_no_third_in_a_later_build(on: Kind) {
    let mut request = request(&dockerfile("COPY . /c\nRUN ls -A /c\n"));
    for (content, salt) in [("1", "a"), ("1", "b"), ("2", "b"), ("2", "c")] {
        let tree = Tree::builder()
            .busybox()
            .file("one", content.as_bytes())
            .file("salt", unique(salt).as_bytes())
            .hardlink("two", "one")
            .done();
        // The same key: the Engine compares with what it kept of the build before.
        request.build_ref = unique("build");
        let ended = build(&engine(on), request.clone(), tree).await;
        ended.succeeded();
        assert_eq!(ended.output(1), "busybox\none\nsalt\ntwo\n");
    }
}

async fn a_file_that_differs_only_in_its_attributes_is_another_image(on: Kind) {
    let mut request = request(&dockerfile("COPY . /c\n"));
    let salt = unique("salt");
    let mut images = Vec::new();
    for capability in [0x04, 0x08] {
        let value = [&[1, 0, 0, 2, 0, capability][..], &[0; 14]].concat();
        let tree = Tree::builder()
            .busybox()
            .file("salt", salt.as_bytes())
            .file("tool", b"x")
            .xattr("security.capability", &value)
            .done();
        request.build_ref = unique("build");
        images.push(build(&engine(on), request.clone(), tree).await.succeeded().image);
    }
    assert_ne!(images[0], images[1]);
}

async fn large_files_and_many_small_ones_arrive_whole(on: Kind) {
    let salt = unique("x");
    let large: Vec<u8> = salt.bytes().cycle().take(9_000_001).collect();
    let mut builder = Tree::builder().busybox().file("large", &large).directory("many", 0o755);
    for number in 0..3_000 {
        builder = builder.file(&format!("many/{number}"), format!("{salt} {number}\n").as_bytes());
    }
    let text =
        dockerfile("COPY large /large\nCOPY many /many\nRUN wc -c < /large; cat /many/* | sort -u | wc -l\n");
    let ended = build(&engine(on), request(&text), builder.done()).await;
    ended.succeeded();
    assert_eq!(ended.output(1), "9000001\n3000\n");
}
