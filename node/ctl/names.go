package ctl

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/effiscale/effiscale/node/api"
)

const (
	// completeTimeout bounds the completion of a name in a shell.
	completeTimeout = time.Second
	// maxCores and maxSize refuse typing errors before the daemon is called; its
	// own bounds are the host's.
	maxCores = 4096
	maxSize  = int64(1) << 50 // 1 PiB
)

// checkName refuses what cannot be NAME or HOST/NAME: a container or a service, and
// the host on which it runs.
func checkName(name string) error {
	host, rest := api.SplitHost(name)
	switch {
	case strings.TrimSpace(name) == "":
		return usagef("the name is empty: `effiscale status` lists the containers")
	case strings.HasPrefix(name, "/") && strings.Count(name, "/") == 1 && len(name) > 1:
		return usagef("%q begins with a slash: write the container's name without it, %q", shorten(name), shorten(name[1:]))
	case strings.Count(name, "/") > 2, host == "." || host == "..", len(rest) < len(name) && (rest == "" || host == ""):
		return usagef("%q is not a container's name: allowed are NAME, HOST/NAME for the one on that host, "+
			"and PROJECT/SERVICE", shorten(name))
	case len(rest) > 128 || len(host) > 64:
		return usagef("a name of %d characters is too long: at most 128, and 64 for a host", len(name))
	case clean(name) != name:
		return usagef("%q is not a container's name: it has control characters", shorten(name))
	}
	return nil
}

// nameOf is the NAME among the arguments; "": none is given.
func nameOf(args []string) (string, error) {
	if len(args) == 0 {
		return "", nil
	}
	return args[0], checkName(args[0])
}

func shorten(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}

// parseCores reads cores: "0.5", "2".
func parseCores(s string) (float64, error) {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(v) || v < 0.01 || v > maxCores {
		return 0, usagef("--cpu %q: allowed are cores from 0.01 to %d, such as 0.5 or 2", shorten(s), maxCores)
	}
	return v, nil
}

var sizeSuffixes = map[string]float64{
	"": 1, "b": 1, "k": 1 << 10, "kib": 1 << 10, "m": 1 << 20, "mib": 1 << 20,
	"g": 1 << 30, "gib": 1 << 30, "t": 1 << 40, "tib": 1 << 40,
}

// parseSize reads a size as Docker and IEC write it: "512m", "512MiB", "1.5g".
func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	unit, known := sizeSuffixes[strings.ToLower(s[len(digits):])]
	v, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
	if bytes := v * unit; known && err == nil && bytes >= 1 && bytes <= float64(maxSize) {
		return int64(bytes), nil
	}
	return 0, usagef("--memory %q: allowed are sizes up to 1024 TiB, such as 512MiB, 512m or 1.5GiB", shorten(s))
}

// completeNames completes the names of containers that exist now, and of services
// where those are allowed too. Without an answer of the daemon it completes nothing.
func completeNames(a *app, services bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
		defer cancel()
		st, err := call(ctx, a, api.OpStatus, api.None{})
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		names := plainNames(st, services)
		if strings.Contains(toComplete, "/") {
			names = append(names, hostNames(st, services)...)
		}
		// A name that needs escaping is not offered to a shell.
		names = slices.DeleteFunc(names, func(n string) bool { return !shellSafe(n) || !strings.HasPrefix(n, toComplete) })
		slices.Sort(names)
		return slices.Compact(names), cobra.ShellCompDirectiveNoFileComp
	}
}

// plainNames are the names of containers and services; a container's name that two
// hosts have is written HOST/NAME.
func plainNames(st api.Status, services bool) []string {
	var names []string
	times := map[string]int{}
	for _, c := range st.Containers {
		times[c.Name]++
	}
	for _, c := range st.Containers {
		if times[c.Name] > 1 {
			c.Name = cmp.Or(c.Host, st.Node.Name) + "/" + c.Name
		}
		names = append(names, c.Name)
	}
	if services {
		for _, s := range st.Services {
			names = append(names, s.Name)
		}
	}
	return names
}

// hostNames are all names as HOST/NAME.
func hostNames(st api.Status, services bool) []string {
	var names []string
	for _, c := range st.Containers {
		host := cmp.Or(c.Host, st.Node.Name) + "/"
		names = append(names, host+c.Name)
		if services {
			names = append(names, host+c.Service)
		}
	}
	return names
}

func shellSafe(name string) bool {
	return name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-/") == ""
}
