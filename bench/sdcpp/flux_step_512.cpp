// stable-diffusion.cpp's side of flux_step_512: answers as bench/reference.py does, with the library's own FluxRunner.
//
// flux_step_512 ROW WEIGHT_TYPE OUTPUT    run in bench/; WEIGHT_TYPE is a ggml type such as bf16 or q8_0
//
// With its flash kernel of attention, which was the faster of the two by 3 %.

#include <sched.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "flux.hpp"
#include "json.hpp"
#include "model.h"
#include "stable-diffusion.h"

static const std::string WEIGHTS = "work/flux_step_bfl/flux_step.safetensors", INPUTS = "work/flux_step/inputs.st";
static const std::string PREFIX = "model.diffusion_model";
static const int64_t SIDE = 32, CHANNELS = 16, PATCH = 2, TEXT = 512, TEXT_WIDTH = 4096, POOLED_WIDTH = 768;

static double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

static int processors() {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

static ggml_type weight_type(const std::string& name) {
    for (int type = 0; type < GGML_TYPE_COUNT; type++) {
        const char* known = ggml_type_name(static_cast<ggml_type>(type));
        if (known != nullptr && name == known) return static_cast<ggml_type>(type);
    }
    throw std::runtime_error("there is no weight type " + name);
}

// The f32 numbers of a tensor in a safetensors file.
static std::vector<float> numbers(const std::string& path, const std::string& name) {
    std::ifstream file(path, std::ios::binary);
    uint64_t length = 0;
    file.read(reinterpret_cast<char*>(&length), sizeof(length));
    std::string head(length, ' ');
    file.read(head.data(), static_cast<std::streamsize>(length));
    const auto place = nlohmann::json::parse(head).at(name).at("data_offsets");
    const uint64_t begin = place[0], end = place[1];
    std::vector<float> found((end - begin) / sizeof(float));
    file.seekg(static_cast<std::streamoff>(sizeof(length) + length + begin));
    file.read(reinterpret_cast<char*>(found.data()), static_cast<std::streamsize>(end - begin));
    if (!file) throw std::runtime_error("cannot read " + name + " of " + path);
    return found;
}

// Calls place(in tokens, in image) for every number: tokens are (side², channels × 2 × 2), the image is (channels, 2 side, 2 side).
template <typename Place>
static void for_patches(Place place) {
    const int64_t width = SIDE * PATCH;
    for (int64_t token = 0; token < SIDE * SIDE; token++) {
        for (int64_t i = 0; i < CHANNELS * PATCH * PATCH; i++) {
            const int64_t channel = i / (PATCH * PATCH), down = i / PATCH % PATCH, right = i % PATCH;
            const int64_t y = token / SIDE * PATCH + down, x = token % SIDE * PATCH + right;
            place(token * CHANNELS * PATCH * PATCH + i, (channel * width + y) * width + x);
        }
    }
}

struct Row {
    std::unique_ptr<Flux::FluxRunner> runner;
    sd::Tensor<float> x, context, pooled, timesteps, guidance;

    explicit Row(ggml_type type) {
        ModelLoader loader;
        if (!loader.init_from_file_and_convert_name(WEIGHTS, PREFIX + ".", VERSION_FLUX))
            throw std::runtime_error("cannot read the weights");
        loader.set_wtype_override(type);
        runner = std::make_unique<Flux::FluxRunner>(
            ggml_backend_cpu_init(), false, loader.get_tensor_storage_map(), PREFIX, VERSION_FLUX);
        runner->set_flash_attention_enabled(true);
        runner->alloc_params_buffer();
        std::map<std::string, ggml_tensor*> tensors;
        runner->get_param_tensors(tensors, PREFIX);
        if (!loader.load_tensors(tensors, {}, processors())) throw std::runtime_error("cannot load the weights");

        const auto tokens = numbers(INPUTS, "latents");
        x = sd::Tensor<float>({SIDE * PATCH, SIDE * PATCH, CHANNELS, 1});
        for_patches([&](int64_t token, int64_t pixel) { x.values()[pixel] = tokens[token]; });
        context = sd::Tensor<float>({TEXT_WIDTH, TEXT, 1}, numbers(INPUTS, "txt"));
        pooled = sd::Tensor<float>({POOLED_WIDTH, 1}, numbers(INPUTS, "pooled"));
        timesteps = sd::Tensor<float>::from_vector({1.0f});
        guidance = sd::Tensor<float>::from_vector({3.5f});
    }

    std::vector<float> run() {
        auto velocity = runner->compute(processors(), x, timesteps, context, {}, pooled, guidance);
        std::vector<float> tokens(velocity.values().size());
        for_patches([&](int64_t token, int64_t pixel) { tokens[token] = velocity.values()[pixel]; });
        return tokens;
    }
};

int main(int count, char** words) {
    if (count != 4) {
        std::cerr << "usage: flux_step_512 ROW WEIGHT_TYPE OUTPUT" << std::endl;
        return 2;
    }
    FILE* answers = fdopen(dup(1), "w");
    dup2(2, 1);  // what the library prints must not look like an answer
    sd_set_log_callback([](sd_log_level_t, const char* text, void*) { std::cerr << text; }, nullptr);
    const auto answer = [&](const std::string& text) {
        fprintf(answers, "%s\n", text.c_str());
        fflush(answers);
    };
    auto start = std::chrono::steady_clock::now();
    Row row(weight_type(words[2]));
    answer("ready " + std::to_string(seconds_since(start)));
    std::string line;
    for (int repetition = 0; std::getline(std::cin, line); repetition++) {
        start = std::chrono::steady_clock::now();
        const auto values = row.run();
        const double seconds = seconds_since(start);
        if (repetition == 0) {
            std::ofstream(words[3], std::ios::binary)
                .write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(float)));
        }
        answer(std::to_string(seconds));
    }
}
