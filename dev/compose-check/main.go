// Reads a compose file as `docker compose` does, with the library that it uses, and prints what comes out as JSON. For
// tests/system/compose.rs.
//
//	compose-check FOLDER FILE [PROFILE...]
//
// FILE is read as if it were in FOLDER. Nothing is taken from the environment. Exit codes: 0 done, 1 refused (the reason is on stderr), 2 wrong usage.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "compose-check: needs FOLDER and FILE, and takes PROFILEs")
		os.Exit(2)
	}
	json, err := load(os.Args[1], os.Args[2], os.Args[3:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "compose-check:", err)
		os.Exit(1)
	}
	fmt.Println(string(json))
}

func load(folder, file string, profiles []string) ([]byte, error) {
	options, err := cli.NewProjectOptions([]string{file}, cli.WithWorkingDirectory(folder), cli.WithProfiles(profiles))
	if err != nil {
		return nil, err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return nil, err
	}
	return project.MarshalJSON()
}
