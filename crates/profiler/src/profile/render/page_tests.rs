use super::*;
use crate::profile::report::sample;

#[test]
fn a_page_has_the_verdict_the_figures_and_nothing_from_elsewhere() {
    let page = render(&[sample()]).unwrap();
    for part in [
        "<title>app: measured; the profile has no gates</title>",
        "<b>1.50 MB</b>",
        "<b>31,234 req&#x2f;s</b>",
        "no steady state in 20 windows: the later ones still vary by 20.0 %",
        "layer 1 › /app/server",
    ] {
        assert!(page.contains(part), "{part}");
    }
    for part in ["<script", "http-equiv=\"refresh\"", "src=", "url(", "@import"] {
        assert!(!page.contains(part), "{part}");
    }
    // The namespace of SVG is a name, and the only address.
    assert_eq!(page.matches("http://").count(), page.matches("http://www.w3.org/2000/svg").count());
    assert!(!page.contains("https://") && page.len() < 300_000, "{}", page.len());
}

#[test]
fn a_changed_number_changes_the_page() {
    let mut report = sample();
    let before = render(&[report.clone()]).unwrap();
    for at in 0..report.runs.len() {
        for figure in 0..report.runs[at].measurements.len() {
            let was = report.runs[at].measurements[figure].value;
            report.runs[at].measurements[figure].value = was * 1.5 + 1.0;
            assert_ne!(
                render(&[report.clone()]).unwrap(),
                before,
                "{:?}",
                report.runs[at].measurements[figure]
            );
            report.runs[at].measurements[figure].value = was;
        }
    }
    report.runs[1].curves[0].points[1].1 *= 2.0;
    assert_ne!(render(&[report]).unwrap(), before);
}

#[test]
fn names_of_others_are_no_markup() {
    let mut report = sample();
    report.target.names = vec!["<img src=x onerror=alert(1)>".to_owned()];
    report.runs[0].bytes =
        Some(tare_report::Part::of("image", vec![tare_report::Part::leaf("</svg><b>", 9)]));
    let page = render(&[report]).unwrap();
    assert!(!page.contains("<img") && !page.contains("</svg><b>"));
    assert!(page.contains("&lt;img src=x onerror=alert(1)&gt;"));
}

#[test]
fn two_reports_stand_beside_each_other_with_their_curves_in_one_drawing() {
    let page = render(&[sample(), sample()]).unwrap();
    assert!(page.contains("<title>app, app (2)</title>"));
    assert_eq!(page.matches("aria-label=\"Latency by share of the requests").count(), 1);
    assert!(page.contains(">app (2), closed</text>"));
    assert_eq!(page.matches("aria-label=\"Bytes of the image by layer").count(), 2);
}
