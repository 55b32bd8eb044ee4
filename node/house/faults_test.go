package house

// fault is one row of FAULTS.md: what may go wrong, and the safe answer. The
// numbers have gaps: faults of a cluster come with the cluster.
type fault struct {
	row          int
	what, answer string
}

func faults() []fault {
	return []fault{
		{3, "killed after the Engine's call, before the record is closed", "the kernel is read back, the record closed, nothing repeated"},
		{4, "SIGTERM", "what is under way ends, the file is closed, exit 0"},
		{5, "SIGINT twice, SIGHUP, SIGQUIT, SIGPIPE", "forced exit; reload; stacks; ignored"},
		{13, "two daemons on one host", "the second says so and exits with 75"},
		{25, "the Engine is slow", "a deadline for each call; measuring goes on"},
		{26, "the Engine is stopped", "calls time out, the breaker opens, `status` says so"},
		{27, "the Engine restarts and takes the containers along", "no drop of demand is seen in it; nothing shrinks for 5 min"},
		{28, "no Engine at the start", "ready after the first try; tried again for ever"},
		{29, "permission denied on the socket", "one line with path and group"},
		{30, "500, 404, 409, half a JSON, HTML", "typed errors; gone, looked at again, unreachable"},
		{31, "the event stream breaks or overflows", "the listing is the truth, every 30 s"},
		{32, "1000 containers made and removed in a minute", "bounded memory, no leak"},
		{33, "a container exits during an update", "superseded, not tried again"},
		{34, "a container recreated under the same name", "told apart by id; the service's knowledge stays"},
		{35, "a counter starts over", "the reading is dropped, rates start anew"},
		{36, "NaN, infinity, negative, 2^63", "dropped and counted; refused in files and requests"},
		{37, "more CPU time than there are cores", "clamped"},
		{38, "a frozen file", "stale: hold, and say so"},
		{39, "missing path, hybrid, nested", "found by /proc/PID/cgroup; else the Engine's statistics"},
		{40, "a pid is reused", "the path must hold the container's id"},
		{41, "the wall clock jumps", "intervals are monotonic"},
		{43, "the file is locked", "an error in 2 s, exit 75"},
		{44, "the file is garbage", "set aside, start empty"},
		{45, "one meta page is bad", "opened by the other, rebuilt"},
		{46, "truncated, damaged pages", "a fault becomes an error; set aside"},
		{47, "a flipped bit", "every value has a checksum; the record is dropped"},
		{48, "an empty file", "a first start"},
		{49, "the disk is full", "scaling goes on from memory; recovers by itself"},
		{50, "read-only file system", "the same"},
		{51, "the file grows", "bounded and pruned"},
		{52, "power cut", "no action is lost"},
		{53, "crash loop", "safe mode: only measuring"},
		{54, "10 GB bodies, a million headers, slow and deaf clients", "bounds on size, time, count and rate"},
		{55, "path tricks, short ids", "400 before the Engine is asked"},
		{56, "writes from other hosts, browsers, DNS rebinding", "loopback, tokens, exact Host, no foreign origin"},
		{57, "hostile labels", "strict; off for that container alone"},
		{58, "labels that disagree", "said; each container follows its own"},
		{59, "typos, unknown keys, wrong types", "file, line, value, suggestion; a reload keeps the old"},
		{60, "valid but dangerous values", "range errors"},
		{61, "restarts under load", "no action because of a restart"},
		{62, "the same request many times", "done once, the same answer for a day"},
		{63, "`docker update` by hand", "left alone for a while, then the policy"},
		{64, "limits by hand outside the bounds", "never silently corrected; said"},
		{65, "an OOM kill", "more memory at once, no cut for an hour"},
		{66, "a leak", "the ceiling stops it; said"},
		{67, "load that swings with the loop", "at most one change of direction in a window"},
		{68, "an overcommitted host", "growth is deferred; said"},
		{73, "no file descriptors, leaks, a long run", "flat; the accept loop waits"},
		{74, "the daemon is starved of CPU", "a late pass decides nothing"},
		{76, "uninstall", "`restore` puts the original limits back"},
	}
}
