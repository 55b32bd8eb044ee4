package view

import "strings"

// Names joins names, and leaves out those beyond the eighth.
func Names(names []string) string {
	const most = 8
	if len(names) > most {
		return strings.Join(names[:most], ", ") + " …"
	}
	return strings.Join(names, ", ")
}

// CallCause is the cause in the text of a failed call, without the id of the called node.
func CallCause(text string) string {
	if _, cause, ok := strings.Cut(text, ": "); ok && strings.HasPrefix(text, "cannot call node ") {
		return cause
	}
	return text
}
