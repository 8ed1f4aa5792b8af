#!/usr/bin/env bash
# Builds llama.cpp's server for this machine's processor: build-llama-cpp.sh PINS FOLDER leaves
# FOLDER/llama-server. Needs Python 3 with pip and a C++ compiler; takes some ten minutes on two
# cores. The source package is only unpacked; of its own build nothing is run but what tells pip
# its name.
set -euo pipefail
pins=$1 folder=$2
pip=(python3 -m pip --disable-pip-version-check --no-input)
"${pip[@]}" install --quiet --no-deps --only-binary=:all: --require-hashes \
    --target "$folder/tools" --requirement "$pins/llama-cpp-tools.txt"
export PYTHONPATH="$folder/tools" PATH="$folder/tools/bin:$PATH"
"${pip[@]}" download --quiet --no-deps --no-build-isolation --no-binary llama-cpp-python \
    --require-hashes --requirement "$pins/llama-cpp.txt" --dest "$folder/source"
tar -xzf "$folder"/source/*.tar.gz -C "$folder/source" --strip-components=1
cmake -S "$folder/source/vendor/llama.cpp" -B "$folder/build" -G Ninja \
    -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DGGML_NATIVE=ON -DLLAMA_BUILD_TESTS=OFF \
    -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_BUILD_UI=OFF \
    -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF
ninja -C "$folder/build" llama-server
cp "$folder/build/bin/llama-server" "$folder/llama-server"
rm -rf "$folder/source" "$folder/build" "$folder/tools"
