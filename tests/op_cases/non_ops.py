"""Public names that are not operations on tensors' values, each with the reason why it has no row."""

ABOUT = "asks about the tensor, computes nothing"
GRAPH = "steers the graph: tests/parity/test_autograd.py, test_anomaly.py"
OUT = "hands values to Python or NumPy"
STREAM = "the random stream: tests/parity/test_random.py"
SETTING = "a setting of the library"
DTYPES = "about dtypes: tests/parity/test_promotion.py"
TRANSFORMS = "takes functions: tests/parity/test_func.py"
FILES = "reads or writes files"
MEMORY = "where the data is, not what it is"

LAYERS = "compared with PyTorch in tests/nn"
MADE = "made of operations that have rows"
OURS = "PyTorch has no such method: nothing to compare with"

_REASONS = {
    LAYERS: """adaptive_avg_pool2d batch_norm embedding celu elu selu rms_norm hardsigmoid hardswish
        hardtanh hardshrink huber_loss leaky_relu logsigmoid mish relu6 softshrink threshold dropout""",
    MADE: """F.multi_head_attention_forward bitwise_left_shift bitwise_right_shift Tensor.bitwise_left_shift_
        Tensor.bitwise_right_shift_ Tensor.std_mean Tensor.var_mean Tensor.silu Tensor.clip_""",
    OURS: "Tensor.maximum_ Tensor.minimum_ Tensor.silu_",
    ABOUT: """is_tensor typename is_floating_point numel is_grad_enabled is_inference_mode_enabled
        is_inference Tensor.is_inference
        Tensor.dim Tensor.ndimension Tensor.size Tensor.numel Tensor.nelement Tensor.stride
        Tensor.storage_offset Tensor.is_contiguous
        Tensor.element_size Tensor.is_floating_point Tensor.is_complex""",
    GRAPH: """is_anomaly_enabled is_anomaly_check_nan_enabled set_anomaly_enabled set_grad_enabled
        no_grad enable_grad inference_mode
        Tensor.backward Tensor.detach Tensor.requires_grad_ Tensor.retain_grad Tensor.register_hook
        Tensor.register_post_accumulate_grad_hook Tensor.detach_""",
    OUT: "frombuffer Tensor.item Tensor.tolist Tensor.numpy",
    STREAM: """manual_seed seed initial_seed get_rng_state set_rng_state multinomial
        Tensor.multinomial""",
    SETTING: """set_num_threads get_num_threads set_printoptions set_default_dtype get_default_dtype
        empty_cache memory_stats reset_peak_memory_stats set_memory_limit""",
    DTYPES: "promote_types result_type can_cast finfo iinfo Tensor.type",
    FILES: "save load",
    TRANSFORMS: "vmap",
    MEMORY: "Tensor.data_ptr Tensor.cpu Tensor.cuda",
}

NON_OPS = {name: reason for reason, names in _REASONS.items() for name in names.split()}
