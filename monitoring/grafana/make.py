#!/usr/bin/env python3
"""Writes the dashboards in dashboards/ from the lists of panels in panels.py.

    monitoring/grafana/make.py          write them
    monitoring/grafana/make.py --check  exit code 1 if one is not as it would be written
    monitoring/grafana/make.py --rules  print every query as a recording rule, for `promtool check rules`

Needs Python 3.9 and nothing else."""

import json
import pathlib
import sys

sys.dont_write_bytecode = True
import panels  # noqa: E402

FOLDER = pathlib.Path(__file__).with_name("dashboards")
SCHEMA_VERSION = 42
COLUMNS = 24
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
THRESHOLDS = {"mode": "absolute", "steps": [{"color": "green", "value": None}]}

TOOLTIP = {"mode": "multi", "sort": "desc"}
LEGEND = {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True}
REDUCE = {"calcs": ["lastNotNull"], "fields": "", "values": False}
LINES = {"drawStyle": "line", "fillOpacity": 10, "lineWidth": 1, "showPoints": "never", "spanNulls": False}
OPTIONS = {
    "timeseries": {"legend": LEGEND, "tooltip": TOOLTIP},
    "stat": {
        "colorMode": "value", "graphMode": "area", "justifyMode": "auto", "orientation": "auto", "percentChangeColorMode": "standard",
        "reduceOptions": REDUCE, "showPercentChange": False, "textMode": "auto", "wideLayout": True,
    },
    "heatmap": {
        "calculate": False, "cellGap": 1, "exemplars": {"color": "rgba(255,0,255,0.7)"}, "legend": {"show": True},
        "color": {"exponent": 0.5, "fill": "dark-orange", "mode": "scheme", "reverse": False, "scheme": "Oranges", "steps": 64},
        "rowsFrame": {"layout": "auto"}, "showValue": "never", "tooltip": {"mode": "single", "yHistogram": True},
        "yAxis": {"axisPlacement": "left", "unit": "s"},
    },
    "state-timeline": {
        "alignValue": "left", "legend": LEGEND, "mergeValues": True, "rowHeight": 0.8, "showValue": "never", "tooltip": TOOLTIP,
    },
    "table": {"cellHeight": "sm", "frameIndex": 0, "showHeader": True},
}
CUSTOM = {
    "timeseries": LINES,
    "heatmap": {"scaleDistribution": {"type": "linear"}},
    "state-timeline": {"fillOpacity": 80, "lineWidth": 0},
}


def target(kind, index, expr, legend):
    made = {"refId": chr(ord("A") + index), "datasource": SOURCE, "editorMode": "code", "expr": expr, "legendFormat": legend or "__auto"}
    if kind == "table":
        return made | {"format": "table", "instant": True, "range": False}
    return made | {"format": "heatmap" if kind == "heatmap" else "time_series", "range": True}


def mappings(states):
    """`states` are pairs of text and colour, for 0, 1, 2, …"""
    options = {str(value): {"text": text, "color": color, "index": value} for value, (text, color) in enumerate(states)}
    return [{"type": "value", "options": options}]


def panel(number, place, spec):
    kind = spec["kind"]
    defaults = {"unit": spec["unit"], "thresholds": THRESHOLDS, "color": {"mode": "palette-classic"}}
    if kind in CUSTOM:
        defaults["custom"] = CUSTOM[kind] | spec.get("custom", {})
    if kind == "stat":
        defaults["color"] = {"mode": "thresholds"}
    if "none" in spec:
        defaults["noValue"] = spec["none"]
    if "states" in spec:
        defaults["mappings"] = mappings(spec["states"])
        defaults["color"] = {"mode": "fixed", "fixedColor": "text"}
    for bound in ("min", "max"):
        if bound in spec:
            defaults[bound] = spec[bound]
    made = {
        "id": number, "type": kind, "title": spec["title"], "description": spec["description"], "datasource": SOURCE,
        "gridPos": place, "fieldConfig": {"defaults": defaults, "overrides": []}, "options": OPTIONS[kind],
        "targets": [target(kind, index, *query) for index, query in enumerate(spec["queries"])],
    }
    if kind == "table":
        # Values that are always 1 say nothing; others have a name.
        named = {"Value": spec["value"]} if "value" in spec else {}
        hidden = {name: True for name in ("Time", "Value", "__name__", "job") if name not in named}
        made["transformations"] = [{"id": "organize", "options": {"excludeByName": hidden, "indexByName": {}, "renameByName": named}}]
    return made


def laid_out(rows):
    """Rows of panels, from left to right and on to the next line where no room is left."""
    made, number, top = [], 0, 0
    for title, specs in rows:
        number += 1
        made.append({"id": number, "type": "row", "title": title, "collapsed": False, "panels": [],
                     "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": top}})
        top += 1
        left = height = 0
        for spec in specs:
            if left + spec["width"] > COLUMNS:
                top, left, height = top + height, 0, 0
            number += 1
            made.append(panel(number, {"h": spec["height"], "w": spec["width"], "x": left, "y": top}, spec))
            left, height = left + spec["width"], max(height, spec["height"])
        top += height
    return made


def variable(name, label, query, many):
    made = {"name": name, "label": label, "type": "query", "datasource": SOURCE, "refresh": 2, "sort": 1,
            "query": {"qryType": 1, "query": query, "refId": "StandardVariableQuery"}, "includeAll": many, "multi": many}
    if many:
        made |= {"allValue": ".*", "current": {"selected": True, "text": ["All"], "value": ["$__all"]}}
    return made


def variables(with_channel):
    made = [
        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "refresh": 1},
        variable("job", "job", "label_values(chat4all_build_info, job)", False),
        variable("roles", "roles", 'label_values(up{job="$job"}, roles)', True),
        variable("instance", "process", 'label_values(up{job="$job", roles=~"$roles"}, instance)', True),
    ]
    if with_channel:
        made.append(variable("channel", "channel", 'label_values(chat4all_channel_paused{job="$job"}, channel)', True))
    return made


def dashboard(name, title, description, rows):
    made = laid_out(rows)
    return {
        "uid": f"chat4all-{name}", "title": f"Chat4All / {title}", "description": description, "tags": ["chat4all"],
        "schemaVersion": SCHEMA_VERSION, "editable": True, "graphTooltip": 1, "refresh": "10s", "timezone": "browser",
        "time": {"from": "now-1h", "to": "now"}, "annotations": {"list": []},
        "links": [{"title": "Chat4All", "type": "dashboards", "tags": ["chat4all"], "asDropdown": True, "icon": "external link",
                   "includeVars": True, "keepTime": True, "targetBlank": False, "tooltip": "", "url": ""}],
        "templating": {"list": variables("$channel" in json.dumps(made))}, "panels": made,
    }


def as_rules():
    """Variables stand for what they may be replaced with."""
    rules = []
    for name, _, _, rows in panels.DASHBOARDS:
        for spec in (spec for _, specs in rows for spec in specs):
            for expr, _ in spec["queries"]:
                for variable, value in (("$__rate_interval", "1m"), ("$job", "chat4all"), ("$instance", ".*"), ("$channel", ".*")):
                    expr = expr.replace(variable, value)
                rules.append({"record": f"panel:{name}:{len(rules)}", "expr": expr, "labels": {"title": spec["title"]}})
    return {"groups": [{"name": "panels", "rules": rules}]}


def main():
    if sys.argv[1:] == ["--rules"]:
        return print(json.dumps(as_rules(), indent=1))
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit("make.py: takes nothing, --check or --rules")
    stale = []
    for name, *rest in panels.DASHBOARDS:
        text = json.dumps(dashboard(name, *rest), indent=1, ensure_ascii=False) + "\n"
        path = FOLDER / f"{name}.json"
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
    if stale:
        sys.exit(f"not up to date: {', '.join(stale)}; run monitoring/grafana/make.py")


if __name__ == "__main__":
    main()
