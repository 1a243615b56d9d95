//! Profiles an OCI layout and prints the report as JSON: `profile-layout LAYOUT PROFILE KEEPER FOLDER`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tare_profiler::container::{self, Cleanup, Runtime, RuntimeKind};
use tare_profiler::{Image, Options, definition};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    // The load is sent by a second process of this program.
    if let Some(code) = tare_profiler::generator::run_if_asked() {
        return Ok(code);
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [layout, profile, keeper, folder] = arguments.as_slice() else {
        return Err("usage: profile-layout LAYOUT PROFILE KEEPER FOLDER".into());
    };
    let folder = PathBuf::from(folder);
    let image = Image::open(layout, &folder)?;
    let profile = definition::find(Path::new("."), profile)?;
    let options = container::Options {
        cache: folder.join("roots"),
        state: folder.join("state"),
        keeper: Some(keeper.into()),
        path: std::env::var_os("PATH"),
        cleanup: Cleanup::default(),
    };
    let runtime = Runtime::open(RuntimeKind::Embedded, &options)?;
    let options = Options { runtime: Some(&runtime), cache: folder, ..Options::default() };
    let report = tare_profiler::profile(&image, &profile, &options, |_| {})?;
    println!("{}", report.to_json()?);
    Ok(ExitCode::SUCCESS)
}
