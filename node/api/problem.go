package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// maxDetail bounds the text of an error that goes to a client.
const maxDetail = 1024

// problem is an error on the wire: what is wrong, and what to do.
type problem struct {
	status int
	header http.Header
	Detail string `json:"detail" doc:"What is wrong, and what to do"`
}

func (p *problem) Error() string  { return p.Detail }
func (p *problem) GetStatus() int { return p.status }

// refuse builds a problem.
func refuse(status int, detail string) *problem {
	if len(detail) > maxDetail {
		detail = strings.ToValidUTF8(detail[:maxDetail], "") + "…"
	}
	return &problem{status: status, Detail: detail}
}

// statusOf gives each kind its HTTP status; kindOfStatus is its inverse, but that a client
// reads 422 as a KindBadRequest.
func statusOf(k Kind) int {
	switch k {
	case KindBadRequest:
		return http.StatusBadRequest
	case KindNotFound:
		return http.StatusNotFound
	case KindRefused:
		return http.StatusConflict
	case KindUnavailable:
		return http.StatusServiceUnavailable
	case KindTimeout:
		return http.StatusGatewayTimeout
	case KindForbidden:
		return http.StatusForbidden
	case KindInvalid:
		return http.StatusUnprocessableEntity
	}
	return http.StatusInternalServerError
}

func kindOfStatus(status int) Kind {
	switch status {
	case http.StatusNotFound:
		return KindNotFound
	case http.StatusConflict:
		return KindRefused
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		return KindUnavailable
	case http.StatusGatewayTimeout, http.StatusRequestTimeout:
		return KindTimeout
	case http.StatusForbidden, http.StatusUnauthorized:
		return KindForbidden
	}
	if status >= 400 && status < 500 {
		return KindBadRequest
	}
	return KindInternal
}

// wire turns a daemon's error into what the client sees.
func wire(err error) *problem {
	kind := KindOf(err)
	detail := err.Error()
	switch {
	case kind == KindTimeout && errors.Is(err, context.DeadlineExceeded):
		detail = "no answer in time; the daemon or the Docker Engine is busy: try again, or see effiscale doctor (" +
			detail + ")"
	case kind == KindInternal && errors.Is(err, context.Canceled):
		kind, detail = KindUnavailable, "the daemon is stopping; try again"
	}
	return refuse(statusOf(kind), detail)
}

// plainBound prints a bound at the end of a message as the API takes it: huma prints 2.6784e+06.
func plainBound(message string) string {
	at := strings.LastIndexByte(message, ' ') + 1
	v, err := strconv.ParseFloat(message[at:], 64)
	if err != nil || !strings.Contains(message[at:], "e+") {
		return message
	}
	return message[:at] + strconv.FormatFloat(v, 'f', -1, 64)
}

// plainProblems turns the errors that huma makes itself into problems: the same
// one key, with the fields that are wrong named in its text.
func plainProblems(ctx huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	ctx.SetHeader("Content-Type", "application/json")
	var fields []string
	for _, e := range m.Errors {
		if e != nil {
			fields = append(fields, strings.TrimPrefix(e.Location+": ", ": ")+plainBound(e.Message))
		}
	}
	detail := m.Detail
	if len(fields) > 0 {
		detail = strings.Join(fields, "; ")
	}
	if m.Status == http.StatusBadRequest {
		detail = "cannot read the body as JSON: " + detail
	}
	return refuse(m.Status, detail), nil
}
