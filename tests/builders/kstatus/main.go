// Computes the kstatus of objects, as Flux and `helm --wait` do: a JSON array in, a JSON array out.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type answer struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

func main() {
	var objects []map[string]interface{}
	decoder := json.NewDecoder(os.Stdin)
	if err := decoder.Decode(&objects); err != nil {
		fail(err)
	}
	answers := []answer{}
	for _, object := range objects {
		normalize(object)
		result, err := status.Compute(&unstructured.Unstructured{Object: object})
		if err != nil {
			fail(err)
		}
		answers = append(answers, answer{string(result.Status), result.Message})
	}
	if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
		fail(err)
	}
}

// Unstructured objects hold whole numbers as int64, where encoding/json makes float64.
func normalize(value map[string]interface{}) {
	for key, inner := range value {
		switch typed := inner.(type) {
		case float64:
			if typed == float64(int64(typed)) {
				value[key] = int64(typed)
			}
		case map[string]interface{}:
			normalize(typed)
		case []interface{}:
			for _, entry := range typed {
				if nested, ok := entry.(map[string]interface{}); ok {
					normalize(nested)
				}
			}
		}
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
