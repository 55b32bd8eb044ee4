package docker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"regexp"
	"strings"
	"time"
	"unicode"
)

// Kind classifies the error of a call.
type Kind uint8

// The kinds.
const (
	KindUnreachable Kind = iota // no connection, or not to a Docker Engine
	KindTimeout                 // no answer within the deadline: the call may have had its effect
	KindPermission              // the socket cannot be opened
	KindGone                    // the container, image or network does not exist, or the container does not run
	KindConflict                // it contradicts what the Engine has stored, or the name is in use
	KindRefused                 // the Engine, runc or the kernel rejected it
	KindCanceled                // the caller's context ended
	KindDenied                  // an authorization plugin, a proxy or the Engine does not allow this request at all
)

var kindNames = [...]string{"unreachable", "timeout", "permission", "gone", "conflict", "refused", "canceled", "denied"}

// String is the name of the kind.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown"
}

// Error is the one error type of this package.
type Error struct {
	Op      string // "list", "inspect", "update_cpu", …
	ID      string // of the container, image or network; may be empty
	Kind    Kind
	Message string // of the Engine, runc or the kernel; one line, at most 512 bytes
	Status  int    // HTTP status; 0: there was no answer
	early   bool   // the caller's deadline was too short to blame the Engine
	unsent  bool   // the Engine was not reached
	cause   error
}

// Error is a sentence.
func (e *Error) Error() string {
	what, ok := opWords[e.Op]
	if !ok {
		what = e.Op
	}
	if e.ID != "" {
		what += " " + shorten(e.ID)
	}
	return fmt.Sprintf("cannot %s: %s", what, e.Message)
}

// Unsent reports that the request did not reach the Engine, so that it had no effect.
func (e *Error) Unsent() bool { return e.unsent }

// Unwrap is the cause, such as context.Canceled or fs.ErrPermission.
func (e *Error) Unwrap() error { return e.cause }

// KindOf is the kind of an error of this package; ok is false for others.
func KindOf(err error) (k Kind, ok bool) {
	if e, is := errors.AsType[*Error](err); is {
		return e.Kind, true
	}
	return 0, false
}

// IsGone reports whether err is of KindGone.
func IsGone(err error) bool {
	k, ok := KindOf(err)
	return ok && k == KindGone
}

// Gone reports whether err is of KindGone.
func (*Client) Gone(err error) bool { return IsGone(err) }

// Refused reports whether the Engine or the kernel refused a value.
func (*Client) Refused(err error) bool {
	k, ok := KindOf(err)
	return ok && (k == KindRefused || k == KindConflict || k == KindDenied)
}

var opWords = map[string]string{
	opPing.name:         "reach the Docker Engine",
	opInfo.name:         "read the host's data from the Docker Engine",
	opList.name:         "list containers",
	opInspect.name:      "inspect container",
	opUpdateCPU.name:    "update the CPU limit of container",
	opUpdateMemory.name: "update the memory limit of container",
	opUpdateShares.name: "update the CPU shares of container",
	opStats.name:        "read the statistics of container",
	opEvents.name:       "follow the events of the Docker Engine",
	opCreate.name:       "create container",
	opStart.name:        "start container",
	opStop.name:         "stop container",
	opRestart.name:      "restart container",
	opRemove.name:       "remove container",

	opImport.name:      "import image",
	opImage.name:       "inspect image",
	opTag.name:         "tag image",
	opRemoveImage.name: "remove image",

	opCreateNetwork.name:  "create network",
	opRemoveNetwork.name:  "remove network",
	opConnectNetwork.name: "connect to network",
}

// patience is how long a call must have waited before its timeout counts as an error of
// the Engine: its slowest regular answer is one-shot statistics, 1.0 s on 20.10.
const patience = 2 * time.Second

// goneWords are in the messages of the Engine, containerd and runc, with 409 or 500,
// when the process ended during the request.
var goneWords = []string{
	"is not running", "no such container", "container not running", "container is dead",
	"stopped container", "deleted process", "no running task",
	"marked for removal", "removal of container", "process already finished", "no such process",
}

// goneText reports whether a lower-case message is one of these, or names a cgroup file
// or a systemd scope that does not exist any more.
func goneText(msg string) bool {
	for _, w := range goneWords {
		if strings.Contains(msg, w) {
			return true
		}
	}
	if strings.Contains(msg, ".scope not found") || strings.Contains(msg, ".scope not loaded") ||
		strings.Contains(msg, "task ") && strings.Contains(msg, " not found: not found") { // of containerd
		return true
	}
	return strings.Contains(msg, "cgroup") &&
		(strings.Contains(msg, "no such file or directory") || strings.Contains(msg, "no such device"))
}

// classify makes an Error of a failed call; x is what the transport recorded.
func (c *Client) classify(op operation, id string, x *exchange, err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	status := int(x.status.Load())
	e := &Error{Op: op.name, ID: id, Status: status, cause: err}
	e.Message = strings.TrimPrefix(clean(err.Error()), "Cannot update container "+id+": ")
	switch {
	case errors.Is(err, context.Canceled):
		e.Kind, e.Message = KindCanceled, "canceled"
	case errors.Is(err, context.DeadlineExceeded):
		e.Kind = KindTimeout
		e.early = x.waited() < x.enough
		e.Message = fmt.Sprintf("no answer within %s", x.waited().Round(100*time.Millisecond))
	case status == 0 && errors.Is(x.dialErr(), fs.ErrPermission):
		e.Kind, e.Message, e.cause, e.unsent = KindPermission, permissionHelp(c.address), fs.ErrPermission, true
	case status == 0:
		e.unsent = x.dialErr() != nil
		e.Kind, e.Message = KindUnreachable, clean(dialHelp(c.address, x.dialErr(), err))
	case refusedStatus(op.name, status, x.json.Load(), err.Error()):
		e.Kind, e.Message = KindDenied, c.current().deniedText(op.name, status, e.Message)
	default:
		e.Kind = kindOf(status, x.json.Load(), strings.ToLower(e.Message))
		if e.Kind == KindUnreachable && (status < 400 || !x.json.Load()) {
			e.Message = fmt.Sprintf("%s does not answer like a Docker Engine (HTTP %d): %s", c.host, status, e.Message)
		}
	}
	return e
}

// kindOf classifies a status and its lower-case message. Only JSON is an error of the
// Engine: a page of HTML comes from a proxy, and must not make a container look gone.
func kindOf(status int, json bool, msg string) Kind {
	switch {
	case status < 400 || !json:
		return KindUnreachable
	case status == http.StatusNotFound:
		return KindGone
	case goneText(msg) && (status == http.StatusConflict || status == http.StatusInternalServerError):
		return KindGone
	case status == http.StatusConflict:
		return KindConflict
	case status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout:
		return KindUnreachable
	}
	return KindRefused
}

// tags are those of HTML, in which proxies write their refusals.
var tags = regexp.MustCompile(`</?[A-Za-z][A-Za-z0-9]*( [^<>]*)?>`)

// clean makes one bounded line without control characters of untrusted text.
func clean(s string) string {
	for _, p := range []string{"Error response from daemon: ", "error during connect: "} {
		s = strings.TrimPrefix(s, p)
	}
	s = tags.ReplaceAllString(s, " ")
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	const most = 512
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most-3], "") + "…"
	}
	return s
}

func shorten(id string) string {
	if len(id) == 64 {
		return id[:12]
	}
	return id
}
