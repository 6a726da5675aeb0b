package report

import (
	"embed"
	"fmt"
	html "html/template"
	"strings"
	"text/template"
	"unicode/utf8"
)

//go:embed report.txt.tmpl report.html.tmpl
var files embed.FS

var (
	textTemplate = template.Must(template.New("report.txt.tmpl").Funcs(template.FuncMap{"table": table, "heading": heading}).ParseFS(files, "report.txt.tmpl"))
	htmlTemplate = html.Must(html.New("report.html.tmpl").Funcs(html.FuncMap{"name": name}).ParseFS(files, "report.html.tmpl"))
)

// heading underlines a title with its count.
func heading(title string, n int) string {
	title = fmt.Sprintf("%s (%d)", title, n)
	return title + "\n" + strings.Repeat("-", len(title))
}

// name is a run's name, with what it ran on.
func name(r Run) string {
	if r.Where == "" {
		return r.Name
	}
	return r.Name + " [" + r.Where + "]"
}

// table lays out the runs as KernelCI's report does.
func table(runs []Run) string {
	width := utf8.RuneCountInString("Name")
	for _, r := range runs {
		width = max(width, utf8.RuneCountInString(name(r)))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%-*s | %-10s | %8s | %8s\n", width, "Name", "Result", "Total", "Failures")
	for _, r := range runs {
		fmt.Fprintf(&b, "%-*s | %-10s | %8d | %8d\n", width, name(r), r.Result, r.Total, r.Failures)
	}
	return strings.TrimRight(b.String(), "\n")
}
