package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/effiscale/effiscale/node/api"
)

const (
	// readTimeout bounds a question that the daemon answers from memory, other hosts within a
	// second.
	readTimeout = 5 * time.Second
	// callTimeout bounds the other calls. An Engine update may take its 10 s twice, restore does
	// several, and a trace is a month of records.
	callTimeout = 60 * time.Second
)

// call sends one request to the daemon. Before one that may take long it asks whether the daemon
// answers at all.
func call[Q, R any](ctx context.Context, a *app, op api.Operation[Q, R], q Q) (R, error) {
	to, timeout := a.deps.Connect(a.socketPath()), readTimeout
	if op.Verb != http.MethodGet || op.Name == api.OpTrace.Name {
		timeout = callTimeout
		ctx, cancel := context.WithTimeout(ctx, readTimeout)
		_, err := api.OpHealth.Call(ctx, to, api.None{})
		cancel()
		if api.KindOf(err) == api.KindTimeout {
			var none R
			return none, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return op.Call(ctx, to, q)
}

// every calls f at an interval until it fails or the context ends. Ctrl-C is no error.
func every(ctx context.Context, interval time.Duration, f func() error) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if err := f(); errors.Is(err, context.Canceled) {
			return nil
		} else if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// ask sends one request to the daemon and prints the answer.
func ask[Q, R any](ctx context.Context, a *app, op api.Operation[Q, R], q Q, render func(*page, R)) (R, error) {
	answer, err := call(ctx, a, op, q)
	if err == nil {
		err = emit(a, answer, render)
	}
	return answer, err
}

// do sends one request without an answer and prints text, or that it is done as JSON.
func do[Q any](ctx context.Context, a *app, op api.Operation[Q, api.Done], q Q, text string) error {
	if _, err := call(ctx, a, op, q); err != nil {
		return err
	}
	return emit(a, doneView{api.Schema, true}, func(p *page, _ doneView) { p.line("%s", text) })
}

type doneView struct {
	Schema int  `json:"schema"`
	Done   bool `json:"done"`
}

// emit writes a view: as JSON unchanged, else as the text that render makes of a
// copy in which every string is harmless to a terminal.
func emit[T any](a *app, view T, render func(*page, T)) error {
	if a.output == "json" {
		return a.json(view)
	}
	return emitText(a, view, render)
}

func emitText[T any](a *app, view T, render func(*page, T)) error {
	p := a.page()
	render(p, scrub(view))
	return a.write(p.String())
}

func (a *app) page() *page {
	p := &page{colour: a.colour(), now: a.deps.Now()}
	if a.Terminal {
		p.limit = pageWidth
	}
	if a.Terminal && a.Width > 0 {
		p.limit = max(a.Width, leastWidth)
		p.narrow = min(p.limit, pageWidth)
	}
	return p
}

func (a *app) write(s string) error {
	if _, err := io.WriteString(a.Out, s); err != nil {
		return fmt.Errorf("cannot write the output: %w", err)
	}
	return nil
}

// oneArg takes exactly one argument.
func oneArg(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			return nil
		}
		return fmt.Errorf("%s takes one %s, got %d", cmd.Name(), what, len(args))
	}
}

// atMostOneName takes one NAME, or none.
func atMostOneName(cmd *cobra.Command, args []string) error {
	if len(args) <= 1 {
		return nil
	}
	return fmt.Errorf("%s takes at most one NAME, got %d", cmd.Name(), len(args))
}

// noArgs takes none.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return fmt.Errorf("%s takes no argument, got %q", cmd.Name(), shorten(args[0]))
}

// oneOf completes a flag with one of the values.
func oneOf(values ...string) cobra.CompletionFunc {
	return cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)
}
