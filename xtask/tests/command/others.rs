//! Images as other tools write them: with attestations, with platforms that are not there, with `null` for what is
//! absent, with capabilities of any bits.

use std::fs;

use serde_json::{Value, json};
use tare_oci::compare::first_difference;
use tare_oci::digest::Digest;
use tare_oci::reader::Source;

use crate::inspect::{Layout, built, problems, tar_of};
use crate::support::{Fixture, system};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

fn put(layout: &Layout, document: &Value, media_type: &str) -> Value {
    let bytes = document.to_string();
    let digest = json!(Digest::of(bytes.as_bytes()));
    fs::write(layout.blob(&digest), &bytes).unwrap();
    json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
}

/// The layout's folder as an archive called `a.tar`.
fn archive(fixture: &Fixture) {
    let (layout, archive) = (fixture.layout("app"), fixture.path("a.tar"));
    system("tar", &["-C".as_ref(), layout.as_os_str(), "-cf".as_ref(), archive.as_os_str(), ".".as_ref()]);
}

/// What `--validate` says of a layout that is valid, as a folder and as an archive.
fn valid(fixture: &Fixture) -> Vec<String> {
    archive(fixture);
    let (code, says) = fixture.validate("app");
    assert_eq!(code, Some(0), "{says}");
    assert_eq!(fixture.validate("a.tar"), (Some(0), says.clone()));
    says.lines().map(str::to_owned).collect()
}

/// As BuildKit writes it beside an image (docker docs, "Image attestation storage").
fn attestation(layout: &Layout) -> Value {
    let mut statement = put(layout, &json!({}), "application/vnd.in-toto+json");
    statement["annotations"] = json!({ "in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2" });
    let config = json!({
        "architecture": "unknown", "os": "unknown", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [statement["digest"]] },
    });
    let config = put(layout, &config, CONFIG);
    let manifest =
        json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [statement] });
    let mut descriptor = put(layout, &manifest, MANIFEST);
    descriptor["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
    descriptor["annotations"] = json!({
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": layout.manifest_digest(),
    });
    descriptor
}

#[test]
fn an_attestation_of_buildkit_is_valid_and_listed() {
    let (fixture, mut layout) = built();
    let descriptor = attestation(&layout);
    layout.index["manifests"].as_array_mut().unwrap().push(descriptor.clone());
    let layout = layout.write_index();
    let (digest, image) =
        (descriptor["digest"].as_str().unwrap(), layout.manifest_digest().as_str().unwrap());
    let listed = format!("attestation {digest} of {image}: https://slsa.dev/provenance/v0.2");
    let verdict = "valid: 7 blobs, 2 layers, 14 files and directories checked";
    assert_eq!(valid(&fixture), [format!("note: {listed}"), verdict.to_owned()]);
    let shown = fixture.succeeds(&["inspect", "app"]);
    assert!(shown.ends_with(&format!("\n\nalso in the index:\n  {listed}\n")), "{shown}");
    let json: Value = serde_json::from_str(&fixture.succeeds(&["inspect", "--json", "app"])).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 1);
    assert_eq!(json[0]["attestations"], json!([digest]));

    // As newer versions write it.
    let mut newer: Value =
        serde_json::from_slice(&fs::read(layout.blob(&descriptor["digest"])).unwrap()).unwrap();
    newer["artifactType"] = json!("application/vnd.docker.attestation.manifest.v1+json");
    newer["config"] = put(&layout, &json!({}), "application/vnd.oci.empty.v1+json");
    let annotations = descriptor["annotations"].clone();
    let mut layout = layout;
    let mut descriptor = put(&layout, &newer, MANIFEST);
    descriptor["annotations"] = annotations;
    layout.index["manifests"].as_array_mut().unwrap().push(descriptor);
    let layout = layout.write_index();
    assert_eq!(
        valid(&fixture).iter().filter(|line| line.starts_with("note: attestation sha256:")).count(),
        2
    );

    // Its blobs are checked like others.
    let statement = layout.blob(&json!(Digest::of(b"{}")));
    fs::write(statement, "[]").unwrap();
    let place = format!("blobs/sha256/{}", Digest::of(b"{}").hex());
    assert_eq!(problems(&fixture), [format!("{place}: its digest is {}", Digest::of(b"[]"))]);
}

#[test]
fn an_image_of_no_platform_is_valid_as_crane_writes_it() {
    let (fixture, mut layout) = built();
    layout.config["os"] = json!("");
    layout.config["architecture"] = json!("");
    layout.index["manifests"][0].as_object_mut().unwrap().remove("platform");
    let layout = layout.write();
    let index: Value = serde_json::from_slice(&fs::read(layout.dir.join("index.json")).unwrap()).unwrap();
    let manifest = fs::read(layout.blob(&index["manifests"][0]["digest"])).unwrap();
    let config = layout.place(&serde_json::from_slice::<Value>(&manifest).unwrap()["config"]["digest"]);
    let note = |field: &str| format!("note: {config}: {field} is empty");
    let verdict = "valid: 4 blobs, 2 layers, 14 files and directories checked".to_owned();
    assert_eq!(valid(&fixture), [note("architecture"), note("os"), verdict]);
}

#[test]
fn an_image_cannot_be_hidden_as_an_attestation() {
    let (fixture, mut layout) = built();
    layout.index["manifests"][0]["annotations"] =
        json!({ "vnd.docker.reference.type": "attestation-manifest" });
    layout.write_index();
    assert!(fixture.succeeds(&["inspect", "app"]).contains("/app/server"));
}

fn absent(at: usize) -> Value {
    json!({
        "mediaType": MANIFEST, "digest": format!("sha256:{at:064}"), "size": 500,
        "platform": { "os": "linux", "architecture": "arm64", "variant": "v8" },
    })
}

#[test]
fn a_platform_that_is_not_carried_is_named_and_the_rest_is_read() {
    let note = format!("linux/arm64/v8 is listed, but not carried: sha256:{:064}", 1);
    let verdict = |blobs| format!("valid: {blobs} blobs, 2 layers, 14 files and directories checked");
    let (fixture, mut layout) = built();
    layout.index["manifests"].as_array_mut().unwrap().push(absent(1));
    let layout = layout.write_index();
    assert_eq!(valid(&fixture), [format!("note: {note}"), verdict(4)]);
    let shown = fixture.succeeds(&["inspect", "app"]);
    assert!(shown.contains("/app/server") && shown.ends_with(&format!("also in the index:\n  {note}\n")));

    // Both in an index of their own, as docker writes it.
    let mut layout = layout;
    let both = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": layout.index["manifests"],
    });
    let inner = put(&layout, &both, "application/vnd.oci.image.index.v1+json");
    layout.index["manifests"] = json!([inner]);
    let mut layout = layout.write_index();
    assert_eq!(valid(&fixture), [format!("note: {note}"), verdict(5)]);

    // The manifest is there, and nothing that it points at.
    let absent_blob = |media_type: &str| json!({ "mediaType": media_type, "digest": format!("sha256:{:064}", 2), "size": 3 });
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": absent_blob(CONFIG),
        "layers": [absent_blob("application/vnd.oci.image.layer.v1.tar+gzip")],
    });
    let mut descriptor = put(&layout, &manifest, MANIFEST);
    descriptor["platform"] = json!({ "os": "linux", "architecture": "s390x" });
    layout.index["manifests"].as_array_mut().unwrap().push(descriptor.clone());
    layout.write_index();
    let other =
        format!("note: linux/s390x is listed, but not carried: {}", descriptor["digest"].as_str().unwrap());
    assert_eq!(valid(&fixture), [format!("note: {note}"), other, verdict(6)]);
}

#[test]
fn what_holds_no_image_is_said_to() {
    let hint_free = |fixture: &Fixture, shown: &str, what: &str| {
        assert_eq!(
            fixture.refuses(&["inspect", shown]),
            format!("error: ROOT/{shown} holds no image: {what}\n")
        );
    };
    let index = |manifests: Value| json!({ "schemaVersion": 2, "manifests": manifests });
    let unknown = json!({ "mediaType": "application/x", "digest": format!("sha256:{:064}", 1), "size": 1 });
    let named = format!("`application/x`, which is not known: sha256:{:064}", 1);
    for (manifests, what) in [
        (json!([]), "nothing is listed in it"),
        (Value::Null, "nothing is listed in it"),
        (json!([unknown]), named.as_str()),
    ] {
        let (fixture, layout) = built();
        fs::write(layout.dir.join("index.json"), index(manifests).to_string()).unwrap();
        hint_free(&fixture, "target/images/app/layout", what);
        assert_eq!(problems(&fixture), [format!("index.json: it holds no image: {what}")]);
    }
    let (fixture, _) = built();
    fixture.write("empty/manifest.json", "[]");
    hint_free(&fixture, "empty", "nothing is listed in it");
    let says = "manifest.json: it holds no image: nothing is listed in it\n\
                1 problem: 0 blobs, 0 layers, 0 files and directories checked\n";
    assert_eq!(fixture.validate("empty"), (Some(1), says.to_owned()));
}

#[test]
fn an_archive_that_leads_outside_is_named_and_one_with_a_name_twice_refused() {
    let (fixture, _) = built();
    archive(&fixture);
    let add = |name: &str, from: &str| {
        let transform = format!("--transform=s,.*,{name},");
        let from = fixture.path(from);
        let archive = fixture.path("a.tar");
        system("tar", &["-rPf".as_ref(), archive.as_os_str(), transform.as_ref(), from.as_os_str()]);
    };
    fixture.write("evil", "x");
    add("../../evil", "evil");
    let problem = "../../evil: it leads out of the archive\n\
                   1 problem: 4 blobs, 2 layers, 14 files and directories checked\n";
    assert_eq!(fixture.validate("a.tar"), (Some(1), problem.to_owned()));

    archive(&fixture);
    add("x/../index.json", "evil");
    let says = "error: ROOT/a.tar: x/../index.json stands twice in it\n";
    assert_eq!(fixture.refuses(&["inspect", "a.tar"]), says);
    assert_eq!(fixture.refuses(&["inspect", "--validate", "a.tar"]), says);

    archive(&fixture);
    let whole = fs::read(fixture.path("a.tar")).unwrap();
    fixture.write("a.tar", &whole[..whole.len() / 2]);
    let says = fixture.refuses(&["inspect", "a.tar"]);
    assert!(says.starts_with("error: ROOT/a.tar: it is cut short within "), "{says}");
}

#[test]
fn null_means_absent() {
    let (fixture, mut layout) = built();
    for field in ["author", "created", "history", "os.version", "os.features", "variant"] {
        layout.config[field] = Value::Null;
    }
    for field in [
        "User",
        "Cmd",
        "Env",
        "Volumes",
        "ExposedPorts",
        "Labels",
        "OnBuild",
        "Shell",
        "Healthcheck",
        "StopSignal",
    ] {
        layout.config["config"][field] = Value::Null;
    }
    layout.manifest["annotations"] = Value::Null;
    layout.manifest["subject"] = Value::Null;
    layout.index["annotations"] = Value::Null;
    layout.index["manifests"][0]["platform"] = Value::Null;
    layout.index["manifests"][0]["annotations"] = Value::Null;
    layout.write();
    assert_eq!(valid(&fixture), ["valid: 4 blobs, 2 layers, 14 files and directories checked"]);
    let shown = fixture.succeeds(&["inspect", "app"]);
    assert!(shown.contains("platform     linux/amd64\nentrypoint"), "{shown}");
}

#[test]
fn every_parameter_of_dockers_is_shown() {
    let (fixture, mut layout) = built();
    layout.config["os.version"] = json!("10.0.20348");
    layout.config["os.features"] = json!(["win32k"]);
    layout.config["variant"] = json!("v2");
    layout.config["config"]["OnBuild"] = json!(["RUN make", "COPY . /"]);
    layout.config["config"]["Shell"] = json!(["/bin/bash", "-c"]);
    layout.index["manifests"][0].as_object_mut().unwrap().remove("platform");
    layout.write();
    let shown = fixture.succeeds(&["inspect", "app"]);
    for line in [
        "platform     linux/amd64/v2",
        "os version   10.0.20348",
        "os features  win32k",
        "shell        [\"/bin/bash\",\"-c\"]",
        "on build     RUN make",
        "on build     COPY . /",
    ] {
        assert!(shown.lines().any(|it| it == line), "{line} in {shown}");
    }
}

#[test]
fn manifests_configs_and_layers_by_sha512_are_valid() {
    let (fixture, mut layout) = built();
    let sha512 = |layout: &Layout, digest: &Value| {
        let old = layout.blob(digest);
        let output = std::process::Command::new("sha512sum").arg(&old).output().unwrap();
        let hex = String::from_utf8(output.stdout).unwrap()[..128].to_owned();
        let folder = layout.dir.join("blobs/sha512");
        fs::create_dir_all(&folder).unwrap();
        fs::rename(old, folder.join(&hex)).unwrap();
        json!(format!("sha512:{hex}"))
    };
    layout.manifest["config"]["digest"] = sha512(&layout, &layout.manifest["config"]["digest"]);
    for at in 0..2 {
        layout.manifest["layers"][at]["digest"] = sha512(&layout, &layout.manifest["layers"][at]["digest"]);
    }
    let manifest = put(&layout, &layout.manifest, MANIFEST);
    layout.index["manifests"][0]["digest"] = sha512(&layout, &manifest["digest"]);
    layout.index["manifests"][0]["size"] = manifest["size"].clone();
    layout.write_index();
    fs::remove_file(fixture.path("target/images/app/app.tar")).unwrap();
    assert_eq!(valid(&fixture), ["valid: 4 blobs, 2 layers, 14 files and directories checked"]);
    assert!(fixture.succeeds(&["inspect", "app"]).contains("/app/server"));
}

#[test]
fn a_capability_whose_bytes_are_a_line_feed_goes_all_the_way() {
    for set in [
        "cap_dac_override,cap_fowner=ep",
        "cap_linux_immutable,cap_net_broadcast=ep",
        "cap_sys_rawio,cap_sys_ptrace=ep",
        "cap_sys_time,cap_mknod=ep",
        "cap_mac_admin,cap_wake_alarm=ep",
    ] {
        let fixture = Fixture::new();
        let definition = format!(
            "[build]\noutput = \"server\"\n[[layers]]\nname = \"application\"\nentries = [{{ binary = true, capabilities = \"{set}\" }}]\n"
        );
        fixture.image("app", &definition);
        fixture.succeeds(&["image", "app"]);
        for image in ["app", "target/images/app/app.tar"] {
            let (code, says) = fixture.validate(image);
            assert_eq!(code, Some(0), "{set}: {says}");
            let shown = fixture.succeeds(&["inspect", image]);
            assert!(shown.contains("/app/server [SCHILY.xattr.security.capability]\n"), "{set}: {shown}");
        }
    }
}

#[test]
fn an_image_does_not_write_to_the_terminal() {
    let (fixture, mut layout) = built();
    let evil = "\u{1b}[2J\u{9b}31m\r\n\u{202e}";
    let escaped = "\\u001b[2J\\u009b31m\\r\\n\\u202e";
    layout.config["config"]["User"] = json!(evil);
    layout.config["created"] = json!(evil);
    layout.manifest["layers"][0]["mediaType"] = json!(evil);
    let layout = layout.write();
    let shown = fixture.succeeds(&["inspect", "app"]);
    assert!(shown.contains(&format!("user         {escaped}\n")), "{shown}");
    let (config, layer) =
        (layout.place(layout.config_digest()), layout.place(&layout.manifest["layers"][0]["digest"]));
    assert_eq!(
        problems(&fixture),
        [
            format!("{config}: created `{escaped}` is not RFC 3339"),
            format!("{layer}: `{escaped}` is no layer's media type"),
        ]
    );
}

#[test]
fn every_descriptor_of_a_manifest_is_checked() {
    type Change = fn(&mut Value);
    let table: [(Change, &str); 3] = [
        (|it| it["size"] = json!(1), "bytes, its descriptor says 1"),
        (
            |it| it["platform"]["architecture"] = json!("arm64"),
            "the index says linux/arm64, the config says linux/amd64",
        ),
        (
            |it| it["mediaType"] = json!("application/vnd.oci.image.index.v1+json"),
            "it is an index with the field `config`",
        ),
    ];
    for (change, says) in table {
        let (fixture, mut layout) = built();
        let mut second = layout.index["manifests"][0].clone();
        change(&mut second);
        layout.index["manifests"].as_array_mut().unwrap().push(second);
        let layout = layout.write_index();
        let found = problems(&fixture);
        let place = layout.place(layout.manifest_digest());
        assert!(found.len() == 1 && found[0].starts_with(&place) && found[0].ends_with(says), "{found:?}");
    }
}

#[test]
fn a_list_is_no_object() {
    type Change = fn(&mut Layout);
    let values = |value: &Value| {
        json!([value["mediaType"], value["digest"], value["size"], null, null, null, null, null])
    };
    let descriptor = values;
    let (fixture, mut layout) = built();
    layout.index["manifests"][0] = descriptor(&layout.index["manifests"][0]);
    layout.write_index();
    assert_eq!(problems(&fixture), ["index.json: manifests is a list, where its fields should be"]);
    let table: [(Change, &str); 5] = [
        (
            |it| it.config["config"]["ExposedPorts"] = json!({ "80/tcp": [] }),
            "a value of ExposedPorts is a list, where its fields should be",
        ),
        (|it| it.config["history"][0]["created"] = json!(""), "history: created `` is not RFC 3339"),
        (|it| it.config["config"] = json!([]), "config is a list, where its fields should be"),
        (
            |it| it.config["rootfs"] = json!(["layers", it.config["rootfs"]["diff_ids"]]),
            "rootfs is a list, where its fields should be",
        ),
        (
            |it| it.config["history"] = json!([["2023-11-14T22:13:20Z"]]),
            "history is a list, where its fields should be",
        ),
    ];
    for (change, says) in table {
        let (fixture, mut layout) = built();
        change(&mut layout);
        let layout = layout.write();
        let index: Value = serde_json::from_slice(&fs::read(layout.dir.join("index.json")).unwrap()).unwrap();
        let manifest: Value =
            serde_json::from_slice(&fs::read(layout.blob(&index["manifests"][0]["digest"])).unwrap())
                .unwrap();
        let place = layout.place(&manifest["config"]["digest"]);
        assert_eq!(problems(&fixture), [format!("{place}: {says}")]);
    }
}

#[test]
fn a_comparison_names_the_file_that_differs() {
    let of = |files: &[(&str, &[u8])]| {
        let (fixture, layout) = built();
        layout.with_layer(&tar_of(files));
        fixture
    };
    let compare = |first: &[(&str, &[u8])], second: &[(&str, &[u8])]| {
        let (first, second) = (of(first), of(second));
        let open = |fixture: &Fixture| Source::open(&fixture.layout("app")).unwrap();
        first_difference(&open(&first), &open(&second)).unwrap().map(|difference| difference.what)
    };
    type File = (&'static str, &'static [u8]);
    let [a, b, c]: [File; 3] = [("a", b"1"), ("b", b"2"), ("c", b"3")];
    for (first, second, what) in [
        (&[a, c][..], &[a, b, c][..], "/b is only in the second"),
        (&[c], &[a, b, c], "/a is only in the second"),
        (&[a, b], &[a, b, c], "/c is only in the second"),
        (&[a, b, c], &[a, c], "/b is only in the first"),
        (&[a, c], &[c, a], "the same files in another order"),
        (&[a, a], &[a], "/a is only in the first"),
        (&[a, ("b", b"x")], &[a, b], "/b: byte 0 differs: 0x78 in the first, 0x32 in the second"),
    ] {
        assert_eq!(compare(first, second).as_deref(), Some(what));
    }
    assert_eq!(compare(&[a, a, b], &[a, a, b]), None);
}
