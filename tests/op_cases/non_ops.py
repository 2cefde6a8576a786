"""Public names that are not operations on tensors' values, each with the reason why it has no row."""

ABOUT = "asks about the tensor, computes nothing"
GRAPH = "steers the graph: tests/parity/test_autograd.py"
OUT = "hands values to Python or NumPy"
STREAM = "the random stream: tests/parity/test_random.py"
SETTING = "a setting of the library"
DTYPES = "about dtypes: tests/parity/test_promotion.py"
FILES = "reads or writes files"
MEMORY = "where the data is, not what it is"

_REASONS = {
    ABOUT: """is_tensor is_floating_point is_complex is_nonzero numel broadcast_shapes is_grad_enabled is_inference
        is_inference_mode_enabled
        Tensor.dim Tensor.ndimension Tensor.size Tensor.numel Tensor.nelement Tensor.stride Tensor.storage_offset
        Tensor.is_contiguous Tensor.element_size Tensor.is_floating_point Tensor.is_complex Tensor.is_signed
        Tensor.get_device Tensor.is_same_size Tensor.is_set_to Tensor.is_inference Tensor.is_nonzero""",
    GRAPH: """set_grad_enabled no_grad enable_grad inference_mode
        Tensor.backward Tensor.detach Tensor.detach_ Tensor.requires_grad_ Tensor.retain_grad Tensor.register_hook
        Tensor.register_post_accumulate_grad_hook detach""",
    OUT: "Tensor.item Tensor.tolist Tensor.numpy",
    STREAM: """manual_seed seed initial_seed get_rng_state set_rng_state""",
    SETTING: """set_num_threads get_num_threads set_printoptions set_default_dtype get_default_dtype
        use_deterministic_algorithms set_num_interop_threads get_num_interop_threads
        are_deterministic_algorithms_enabled""",
    DTYPES: "promote_types result_type can_cast finfo iinfo Tensor.type",
    FILES: "save load",
    MEMORY: """Tensor.data_ptr Tensor.cpu Tensor.cuda Tensor.storage Tensor.untyped_storage Tensor.share_memory_
        Tensor.is_shared Tensor.pin_memory Tensor.is_pinned Tensor.set_ Tensor.resize_""",
}

NON_OPS = {name: reason for reason, names in _REASONS.items() for name in names.split()}
