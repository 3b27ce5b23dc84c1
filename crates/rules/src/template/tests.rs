use super::*;

fn render(source: &str) -> String {
    let mut binder = Binder::new("http://paramedic.example/prefix");
    let text = match binder.add("Name", source) {
        Ok(text) => text,
        Err(message) => return message,
    };
    let book = binder.bind(&BTreeMap::from([("dc".to_owned(), "fra".to_owned())]), "http://paramedic.example/prefix");
    let ask: Ask = Arc::new(|query| {
        if query == "broken" {
            return Err("it broke".to_owned());
        }
        let element = |name: &str, value: f64| (Labels::from_pairs(&[("instance", name)]), Point::Float(value));
        Ok(if query == "none" { Vec::new() } else { vec![element("b", 1.5e6), element("a", 2.0)] })
    });
    let reading = book.open(Scene { ask, now_ms: 1_443_620_400_500 });
    let data = reading.data(&Labels::from_pairs(&[("instance", "host.example.com:9090"), ("job", "api")]), &Point::Float(1234567.0));
    reading.expand(&text, &data).unwrap_or_else(|message| message)
}

#[test]
fn templates_give_what_go_gives() {
    for (source, shown) in [
        ("plain", "plain"),
        ("{{ $labels.job }} {{ .Labels.instance }} {{$value}} {{.Value}}", "api host.example.com:9090 1.234567e+06 1.234567e+06"),
        ("[{{ $labels.nobody }}]", "[]"),
        ("{{ $labels.nobody | toUpper }}{{ index $labels \"nobody\" }}", ""),
        ("{{ if eq $labels.nobody \"\" }}none{{ end }}", "none"),
        (
            "{{ $externalLabels.dc }} {{ $externalURL }} {{ externalURL }} {{ pathPrefix }}",
            "fra http://paramedic.example/prefix http://paramedic.example/prefix /prefix",
        ),
        ("{{ range query \"x\" | sortByLabel \"instance\" }}{{ .Labels.instance }}={{ .Value }};{{ end }}", "a=2;b=1.5e+06;"),
        ("{{ query \"x\" | first | value | humanize }} {{ query \"x\" | first | label \"instance\" }}", "1.5M b"),
        ("{{ with query \"none\" }}some{{ else }}none{{ end }}", "none"),
        ("{{ $value | humanizeDuration }} {{ humanizePercentage 0.1234567 }} {{ humanize1024 2048.0 }}", "14d 6h 56m 7s 12.35% 2ki"),
        ("{{ humanizeTimestamp 1443620400.5 }}", "2015-09-30 13:40:00.5 +0000 UTC"),
        ("{{ (toTime 1443620400.0).Format \"2006-01-02T15:04:05Z07:00\" }} {{ (toTime 0).Year }}", "2015-09-30T13:40:00Z 1970"),
        ("{{ toTime 1443620400.0 }} {{ toDuration 3661.5 }}", "2015-09-30 13:40:00 +0000 UTC 1h1m1.5s"),
        ("{{ now }} {{ now | toTime }}", "1.4436204005e+09 2015-09-30 13:40:00.5 +0000 UTC"),
        (
            "{{ stripPort $labels.instance }} {{ stripDomain $labels.instance }} {{ stripDomain \"10.0.0.1:80\" }}",
            "host.example.com host:9090 10.0.0.1:80",
        ),
        ("{{ reReplaceAll \"(.*):(\\\\d+)\" \"$2/$1\" $labels.instance }}", "9090/host.example.com"),
        ("{{ match \"ap.\" $labels.job }} {{ title \"hello big-world\" }} {{ toLower \"ABC\" }}", "true Hello Big-World abc"),
        ("{{ parseDuration \"1h30m\" }} {{ urlQueryEscape \"a b&c\" }}", "5400 a+b%26c"),
        ("{{ graphLink \"up == 0\" }} {{ tableLink \"up\" }}", "/graph?g0.expr=up+%3D%3D+0&g0.tab=0 /graph?g0.expr=up&g0.tab=1"),
        ("{{ define \"x\" }}<{{ . }}>{{ end }}{{ template \"x\" $labels.job }}", "<api>"),
        ("{{ printf \"%.2f %s %v\" $value $labels.job 3 }}", "1234567.00 api 3"),
        ("{{ range $k, $v := $labels }}{{ $k }}={{ $v }},{{ end }}", "instance=host.example.com:9090,job=api,"),
        ("{{ with args 1 \"b\" }}{{ .arg0 }}{{ .arg1 }}{{ end }}", "1b"),
        ("{{ $labels }}", "map[instance:host.example.com:9090 job:api]"),
    ] {
        assert_eq!(render(source), shown, "{source}");
    }
}

#[test]
fn what_cannot_be_parsed_is_refused_before_it_is_executed() {
    for source in [
        "{{ nothing 1 }}",
        "{{ $nobody }}",
        "{{ if }}",
        "{{ $labels.x",
        "{{ tmpl \"x\" . }}",
        "{{ end }}",
        "{{ if true }}",
        "{{ (toTime 1 }}",
    ] {
        assert!(
            check("Name", source).is_err_and(|message| message.starts_with("error parsing template __alert_Name: template: __alert_Name")),
            "{source}: {:?}",
            check("Name", source)
        );
    }
    for source in ["{{ $labels.a.b }}", "{{ \"a\" | humanize }}", "{{ range $i, $x := query \"x\" }}{{ $i }}{{ $x.Value }}{{ end }}"] {
        assert_eq!(check("Name", source), Ok(()), "{source}");
    }
}

#[test]
fn errors_while_executing_become_the_text() {
    for (source, reason) in [
        ("{{ query \"broken\" }}", "error calling query: it broke"),
        ("{{ query \"none\" | first }}", "error calling first: first() called on vector with no elements"),
        ("{{ humanize \"x\" }}", "error calling humanize: strconv.ParseFloat: parsing \"x\": invalid syntax"),
        ("{{ reReplaceAll \"(\" \"\" \"\" }}", "error calling reReplaceAll: "),
    ] {
        let shown = render(source);
        assert!(
            shown.starts_with("<error expanding template: error executing template __alert_Name: ") && shown.contains(reason),
            "{shown}"
        );
    }
}

#[test]
fn nothing_grows_without_bounds() {
    for source in [
        "{{ $x := \"ab\" }}{{ range $i := 100000 }}{{ $x = printf \"%s%s\" $x $x }}{{ end }}{{ $x }}",
        "{{ range $i := 1000000000 }}x{{ end }}",
        "{{ define \"x\" }}{{ template \"x\" . }}{{ end }}{{ template \"x\" . }}",
        "{{ reReplaceAll \"\" (printf \"%60000d\" 1) (printf \"%60000d\" 1) }}",
        "{{ printf \"%60000d%60000d\" 1 1 }}",
    ] {
        let shown = render(source);
        assert!(shown.starts_with("<error expanding template") && shown.len() < 2_048, "{source}: {}", shown.len());
    }
}
